"""How many independent points a pair of autocorrelated series is worth."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray


def autocorrelation(series: ArrayLike, lags: int) -> NDArray[np.float64]:
    """Sample autocorrelation at lags 1..lags of a series with shape (n,); zeros for a constant series."""
    x = np.asarray(series, dtype=float)
    x = x - x.mean()
    energy = float(x @ x)
    if energy == 0:
        return np.zeros(lags)
    padded = np.fft.rfft(x, 2 * x.size)
    full: NDArray[np.float64] = np.fft.irfft(padded * padded.conj(), 2 * x.size)[1 : lags + 1]
    return full / energy


def effective_sample_size(x: ArrayLike, y: ArrayLike) -> float:
    """Effective n for the correlation of two series, shape (n,) each, in order of time.

    1/n_eff = 1/n + (2/n) sum_k ((n-k)/n) r_xx(k) r_yy(k) (Bretherton 1999), summed up to the first lag whose product
    is not positive: beyond it the sample autocorrelations are noise. Within 2..n.
    """
    a, b = np.asarray(x, dtype=float), np.asarray(y, dtype=float)
    if a.shape != b.shape or a.ndim != 1:
        raise ValueError(f"effective_sample_size: shapes {a.shape} and {b.shape}; give two series of one length")
    n = a.size
    if n < 4:
        return float(n)
    lags = n // 2
    product = autocorrelation(a, lags) * autocorrelation(b, lags)
    stop = np.flatnonzero(product <= 0)
    last = int(stop[0]) if stop.size else lags
    k = np.arange(1, last + 1)
    inverse = 1 / n + 2 / n * float(np.sum((n - k) / n * product[:last]))
    return float(np.clip(1 / inverse, 2.0, n))


def detrend(series: ArrayLike, time: ArrayLike) -> NDArray[np.float64]:
    """Residuals of a straight-line fit on time, shape (n,); centred only when time does not vary."""
    y, t = np.asarray(series, dtype=float), np.asarray(time, dtype=float)
    centred, clock = y - y.mean(), t - t.mean()
    energy = float(clock @ clock)
    return centred if energy == 0 else centred - clock * (float(clock @ centred) / energy)
