"""Names in Spark expressions and SQL statements."""


def quoted(name: str) -> str:
    """Quote a name for Spark, whatever characters it contains.

    >>> quoted("a.b`c")
    '`a.b``c`'
    """
    return "`" + name.replace("`", "``") + "`"
