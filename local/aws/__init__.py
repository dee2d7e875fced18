"""The embedded AWS: moto's server, with what it only pretends to do made real where the loop needs it.

One module per hook. Each names the functions of moto that it replaces (`HOOKS`), so that a test, and the
server itself when it starts, notice a moto that has changed.
"""
