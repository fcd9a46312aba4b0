"""Look on at compiled steps while they are taken."""


class Watched:
    """Tell `watch` the arguments of every call of compiled steps, then make the call."""

    def __init__(self, compiled, watch):
        self.compiled, self.watch = compiled, watch

    def __call__(self, *args):
        self.watch(*args)
        return self.compiled(*args)

    def lower(self, *args):
        return self.compiled.lower(*args)
