"""Recipe to plan to run."""

from labctl.procedures.compensating import compensated, found_again, require_compensable
from labctl.procedures.diffusing import Diffusion, diffusions_of
from labctl.procedures.forecasting import Expected, expected
from labctl.procedures.generating import Generation, generations_of
from labctl.procedures.ledger_recipe import LedgerRecipe
from labctl.procedures.ledgering import LedgerResult, LedgerRow, ledger
from labctl.procedures.parts import Part
from labctl.procedures.plan import Chain, chains_of, check_state_noise
from labctl.procedures.recipe import (
    DiffuseRecipe,
    GenerateRecipe,
    GenerateScanRecipe,
    Protocol,
    SampleRecipe,
    Scan,
    ScanRecipe,
    TourRecipe,
    load_protocol,
    parse_setting,
    protocol_names,
    settings_of,
)
from labctl.procedures.replaying import PanelMatch, Replay, replay
from labctl.procedures.running import RunResult, run
from labctl.procedures.watching import PanelResult, SettleReport, Watcher

__all__ = [
    "Chain",
    "DiffuseRecipe",
    "Diffusion",
    "Expected",
    "GenerateRecipe",
    "GenerateScanRecipe",
    "Generation",
    "LedgerRecipe",
    "LedgerResult",
    "LedgerRow",
    "PanelMatch",
    "PanelResult",
    "Part",
    "Protocol",
    "Replay",
    "RunResult",
    "SampleRecipe",
    "Scan",
    "ScanRecipe",
    "SettleReport",
    "TourRecipe",
    "Watcher",
    "chains_of",
    "check_state_noise",
    "compensated",
    "diffusions_of",
    "expected",
    "found_again",
    "generations_of",
    "ledger",
    "load_protocol",
    "parse_setting",
    "protocol_names",
    "replay",
    "require_compensable",
    "run",
    "settings_of",
]
