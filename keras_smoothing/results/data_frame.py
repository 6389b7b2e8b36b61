_COLUMNS = ("index", "label", "prediction", "radius", "p_lower", "sigma")
_COLUMNS += ("volume_radius", "num_samples", "candidate", "time")


def data_frame(result):
    """A `pandas.DataFrame` of a `CertificationResult`, a row an example."""
    try:
        import pandas as pd
    except ImportError as error:
        raise ImportError(
            "Data frames need pandas: pip install pandas"
        ) from error
    columns = {
        name: getattr(result, name)
        for name in _COLUMNS
        if getattr(result, name) is not None
    }
    if result.label is not None:
        columns["correct"] = result.correct
    if result.counts is not None:
        columns["counts"] = list(result.counts)
    return pd.DataFrame(columns)
