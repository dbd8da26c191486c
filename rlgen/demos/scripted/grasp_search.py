"""Where fingers can close along the x axis of a height map: Numba kernels, all in one file because of their cache.

A run is material across the closing direction, widened by half a finger to both sides.
"""

import numpy as np
from numba import njit

# The Panda's hand in the grip site's frame, metres: half the width of a finger, its thickness a centimetre above
# the tip, how far the tip is beyond the site, the palm before it, and the palm's half width and half length.
FINGER_HALF_WIDTH = 0.0095
FINGER_THICKNESS = 0.016
TIP = 0.0092
PALM = 0.031
PALM_HALF_WIDTH = 0.020
PALM_HALF_LENGTH = 0.102
# The pads grip from half a centimetre to two above the tip; rims of plates are no higher than the first.
SHALLOW = 0.006
DEEPEST = 0.032
STRIP = 0.012
# What is a little below the fingertips still blocks them, and what the palm hardly touches is not in its way.
BELOW_TIP, PALM_PLAY = 0.003, 0.004
# Of five cells across the fingers, how many must be firm; room for play between the open fingers, metres.
FIRM, PLAY = 4, 0.006
# Which share of a face must be there, and how far it may be from straight across the fingers, metres.
FACE, SLANT = 0.7, 0.009


@njit(nogil=True, cache=True)
def search(height, target, tips, cell, opening, found, values):
    """Grasps that close along the first axis, level by level, column by column.

    Args:
      height: `Float[n m]`, metres, -inf where nothing is.
      target: `Bool[n m]`, where the thing to be grasped is.
      tips: `Float[levels]`, heights of the fingertips to try, metres.
      cell: of the map, metres.
      opening: between the open fingers, metres.
      found: written, `Int64[k 4]`: level, column, first and one after last row of the run.
      values: written, `Float[k 2]`: how slanted the faces are, and how deep the fingers reach, metres.

    Returns:
      How many there are, at most k.
    """
    rows, columns = height.shape
    solid, blocked = np.empty((rows, columns), np.bool_), np.empty((rows, columns), np.bool_)
    over = np.zeros((rows + 1, columns + 1), np.int32)
    firm = np.empty(rows, np.bool_)
    count = 0
    for level in range(len(tips)):
        tip = tips[level]
        if not _anything_firm(height, target, tip):
            continue
        _what_is_solid(height, tip, cell, solid, blocked)
        _sums_above(height, tip + TIP + PALM - PALM_PLAY, over)
        for column in range(columns):
            if not _firm_column(height, target, tip, column, firm):
                continue
            end = 0
            while end < rows:
                begin = end
                while begin < rows and not blocked[begin, column]:
                    begin += 1
                end = begin
                while end < rows and blocked[end, column]:
                    end += 1
                if begin == rows or (end - begin) * cell > opening - PLAY or not firm[begin:end].any():
                    continue
                if _stranger(solid, target, begin, end, column, cell):
                    continue
                middle = 0.5 * (begin + end - 1)
                if _palm_covered(over, _half_even(middle), column, cell):
                    continue
                if not _fingers_fit(blocked, column, middle, cell, opening):
                    continue
                slant = _slant(solid, begin, end, column, cell)
                depth = _depth(height, target, begin, end, column, tip)
                if slant > SLANT or depth == -np.inf:
                    continue
                if count == len(found):
                    return count
                found[count] = (level, column, begin, end)
                values[count] = (slant, depth)
                count += 1
    return count


@njit(nogil=True, cache=True)
def _anything_firm(height, target, tip):
    for i in range(height.shape[0]):
        for j in range(height.shape[1]):
            if target[i, j] and height[i, j] > tip + SHALLOW:
                return True
    return False


@njit(nogil=True, cache=True)
def _what_is_solid(height, tip, cell, solid, blocked):
    """What is as high as the fingertips, and where a finger's middle cannot be because of it."""
    rows, columns = height.shape
    half = round(FINGER_HALF_WIDTH / cell)
    for i in range(rows):
        clear = columns
        for j in range(columns):
            solid[i, j] = height[i, j] > tip - BELOW_TIP
            clear = 0 if solid[i, j] else clear + 1
            blocked[i, j] = clear <= half
        clear = columns
        for j in range(columns - 1, -1, -1):
            clear = 0 if solid[i, j] else clear + 1
            blocked[i, j] = blocked[i, j] or clear <= half


@njit(nogil=True, cache=True)
def _sums_above(height, limit, over):
    """Sums over all cells before a corner of what is higher than a limit."""
    for i in range(height.shape[0]):
        row = 0
        for j in range(height.shape[1]):
            row += height[i, j] > limit
            over[i + 1, j + 1] = over[i, j + 1] + row


@njit(nogil=True, cache=True)
def _firm_column(height, target, tip, column, firm):
    """Where nearly all of the five cells across the fingers are the target, high enough for the pads."""
    rows, columns = height.shape
    anything = False
    for i in range(rows):
        among = 0
        for step in range(-2, 3):
            # Beyond its edge a map goes on as its mirror image.
            j = column + step
            j = -1 - j if j < 0 else 2 * columns - 1 - j if j >= columns else j
            among += target[i, j] and height[i, j] > tip + SHALLOW
        firm[i] = among >= FIRM
        anything |= firm[i]
    return anything


@njit(nogil=True, cache=True)
def _stranger(solid, target, begin, end, column, cell):
    """Whether something else would be between the fingers."""
    half = round(FINGER_HALF_WIDTH / cell)
    for i in range(begin, end):
        for j in range(max(column - half, 0), min(column + half + 1, solid.shape[1])):
            if solid[i, j] and not target[i, j]:
                return True
    return False


@njit(nogil=True, cache=True)
def _half_even(value):
    """To the nearest whole number, halves to the even one."""
    below = int(np.floor(value))
    if value - below == 0.5:
        return below + below % 2
    return int(np.floor(value + 0.5))


@njit(nogil=True, cache=True)
def _palm_covered(over, row, column, cell):
    """Whether the palm would touch something."""
    half = (round(PALM_HALF_LENGTH / cell), round(PALM_HALF_WIDTH / cell))
    top, bottom = max(row - half[0], 0), min(row + half[0] + 1, over.shape[0] - 1)
    left, right = max(column - half[1], 0), min(column + half[1] + 1, over.shape[1] - 1)
    return over[bottom, right] - over[top, right] - over[bottom, left] + over[top, left] > 0


@njit(nogil=True, cache=True)
def _fingers_fit(blocked, column, middle, cell, opening):
    """Whether both open fingers have room; beyond the map nothing is known to be in the way."""
    for side in (-1, 1):
        inner = middle + side * (opening / 2) / cell
        outer = middle + side * (opening / 2 + FINGER_THICKNESS) / cell
        low, high = int(np.floor(min(inner, outer))), int(np.ceil(max(inner, outer))) + 1
        for i in range(max(low, 0), min(high, len(blocked))):
            if blocked[i, column]:
                return False
    return True


@njit(nogil=True, cache=True)
def _slant(solid, begin, end, column, cell):
    """How much further one side of a face is than the other, metres; infinite where there is too little of a face."""
    half = round(STRIP / 2 / cell)
    low, high = max(begin - 1, 0), min(end + 1, len(solid))
    left, right = max(column - half, 0), min(column + half + 1, solid.shape[1])
    filled, nearest, furthest = 0, (len(solid), -1), (len(solid), -1)
    for j in range(left, right):
        near, far = -1, -1
        for i in range(low, high):
            if solid[i, j]:
                near, far = i if near < 0 else near, i
        if near >= 0:
            filled += 1
            nearest = (min(nearest[0], near), max(nearest[1], near))
            furthest = (min(furthest[0], far), max(furthest[1], far))
    if filled < FACE * (right - left):
        return np.inf
    return max(nearest[1] - nearest[0], furthest[1] - furthest[0]) * cell


@njit(nogil=True, cache=True)
def _depth(height, target, begin, end, column, tip):
    """How far the fingers reach below the top of what they grip, metres.

    -inf where it is a gap, such as between two bars, that is narrower than a finger.
    """
    top = -np.inf
    for i in range(begin, end):
        if target[i, column]:
            top = max(top, height[i, column])
    return min(top - tip, DEEPEST)
