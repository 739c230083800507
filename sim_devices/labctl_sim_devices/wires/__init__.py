"""Real wires in front of a world: bytes in, public interface methods of a device under the world's lock."""
