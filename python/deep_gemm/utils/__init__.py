from . import dist, layout, math
from .dist import dist_print, init_dist, uneven_all_gather
from .layout import *  # noqa: F401,F403
from .math import *  # noqa: F401,F403
