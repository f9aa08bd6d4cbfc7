"""Training configurations of other tools, turned into matrix files. One module per tool."""

__all__ = ["draft", "llamafactory", "trl"]
