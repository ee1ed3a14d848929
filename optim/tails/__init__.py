"""Tails: risk of samples, quantile regression, conformal bounds, calibrated probabilities, mixtures of branches."""

from __future__ import annotations

from importlib import import_module
from typing import Any

_EXPORTS = {
    "calibration": ("IsotonicCalibration", "TemperatureScaling", "VectorScaling"),
    "conformal": ("ConformalQuantiles", "SplitConformal", "conformal_quantile"),
    "estimator": ("Estimator",),
    "excess": ("ExcessTail", "fit_excess"),
    "logistic": ("LogisticCertificate", "MultinomialLogistic"),
    "mixture": ("Mixture", "TailedQuantiles"),
    "quantiles": ("QuantileRegression",),
    "risk": ("TailRisk", "cvar", "rockafellar_uryasev", "tail_risk", "value_at_risk"),
    "scores": ("BrierScore", "Reliability", "brier", "log_loss", "pinball_loss", "reliability"),
}
_HOME = {name: module for module, names in _EXPORTS.items() for name in names}

__all__ = sorted(_HOME)


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'crosswind.optim.tails' has no attribute '{name}'")
    value = getattr(import_module(f"crosswind.optim.tails.{_HOME[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return __all__
