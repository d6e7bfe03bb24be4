"""What test files share."""

import functools
import os


def get_arch_major():
    from .._common import arch_major, current_device
    return arch_major(current_device())


def test_filter(condition):
    """Decorates a test that is run only where condition() holds."""
    def decorate(f):
        @functools.wraps(f)
        def run(*args, **kwargs):
            if condition():
                return f(*args, **kwargs)
            print(f"{f.__name__}: skipped")
        return run
    return decorate


test_filter.__test__ = False


def ignore_env(name, condition):
    """Decorates a test that is run without environment variable `name` where condition() holds."""
    def decorate(f):
        @functools.wraps(f)
        def run(*args, **kwargs):
            saved = os.environ.pop(name, None) if condition() else None
            try:
                return f(*args, **kwargs)
            finally:
                if saved is not None:
                    os.environ[name] = saved
        return run
    return decorate
