"""The tables, their versions, and who may write a night: the one door to Delta."""
