"""A GigE Vision camera: control (GVCP), stream (GVSP), description (GenICam) of any Camera, on loopback."""

from labctl_sim_devices.wires.gige.face import GigeFace as GigeFace
from labctl_sim_devices.wires.gige.loss import PacketLoss as PacketLoss
from labctl_sim_devices.wires.gige.loss import WireCount as WireCount
