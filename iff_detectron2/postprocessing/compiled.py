"""The loops of Seq-NMS, compiled by numba; imported on use, because numba is optional.

Rows are the boxes of one video in the order of `rescore_detections`: by class, then frame, then
falling score. A row is named by its number, and where a rule leaves a choice, the smaller number
wins.
"""

from __future__ import annotations

import numpy as np
from numba import njit


def compiled(function):
    """Compile on the first call, and keep the result on disk for the next process.

    Divisions are not checked for zero: no box is without pixels.
    """
    try:
        return njit(cache=True, nogil=True, error_model="numpy")(function)
    except RuntimeError:  # neither this folder nor the user's cache can be written to
        return njit(nogil=True, error_model="numpy")(function)


# States of a row.
FREE = 0  # takes part in the next round
TAKEN = 1  # on a path that was chosen: stays in the result, but takes part no more
SUPPRESSED = 2  # overlapped such a box: not in the result


@compiled
def _overlap(boxes, i, j):
    """IoU of two boxes with inclusive pixels."""
    width = min(boxes[i, 2], boxes[j, 2]) - max(boxes[i, 0], boxes[j, 0]) + 1.0
    if width <= 0.0:
        return 0.0
    height = min(boxes[i, 3], boxes[j, 3]) - max(boxes[i, 1], boxes[j, 1]) + 1.0
    if height <= 0.0:
        return 0.0
    common = width * height
    area_i = (boxes[i, 2] - boxes[i, 0] + 1.0) * (boxes[i, 3] - boxes[i, 1] + 1.0)
    area_j = (boxes[j, 2] - boxes[j, 0] + 1.0) * (boxes[j, 3] - boxes[j, 1] + 1.0)
    return common / (area_i + area_j - common)


@compiled
def _suppress_frames(boxes, state, runs, threshold):
    """Ordinary NMS of the free rows of every frame; rows of a frame are in order of score."""
    for run in range(len(runs) - 1):
        for i in range(runs[run], runs[run + 1]):
            if state[i] != FREE:
                continue
            for j in range(i + 1, runs[run + 1]):
                if state[j] == FREE and _overlap(boxes, i, j) > threshold:
                    state[j] = SUPPRESSED


@compiled
def _frame_runs(frames, start, end):
    """First row of each frame that has rows, and `end`."""
    runs = np.empty(end - start + 1, dtype=np.int64)
    count = 0
    for row in range(start, end):
        if row == start or frames[row] != frames[row - 1]:
            runs[count] = row
            count += 1
    runs[count] = end
    return runs[: count + 1]


@compiled
def _link(boxes, frames, state, runs, threshold):
    """Link free rows of adjacent frames; the graph in sparse form, forwards and backwards.

    Returns:
        after, after_start, before, before_start: the rows linked behind row r are
        after[after_start[r] : after_start[r + 1]] with r counted from runs[0], ascending; those
        before it likewise.
    """
    first, end = runs[0], runs[-1]
    after = np.empty(max(16, 2 * (end - first)), dtype=np.int64)
    after_start = np.zeros(end - first + 1, dtype=np.int64)
    before_start = np.zeros(end - first + 1, dtype=np.int64)
    count = 0
    for run in range(len(runs) - 1):
        adjacent = run + 2 < len(runs) and frames[runs[run + 1]] == frames[runs[run]] + 1
        for i in range(runs[run], runs[run + 1]):
            if adjacent and state[i] == FREE:
                for j in range(runs[run + 1], runs[run + 2]):
                    if state[j] == FREE and _overlap(boxes, i, j) >= threshold:
                        if count == len(after):
                            after = np.append(after, np.empty(count, dtype=np.int64))
                        after[count] = j
                        count += 1
                        before_start[j - first + 1] += 1
            after_start[i - first + 1] = count
    for k in range(1, len(before_start)):
        before_start[k] += before_start[k - 1]
    before = np.empty(count, dtype=np.int64)
    # Written from the back, a row's links end where the next row's begin.
    free = before_start[1:].copy()
    for i in range(end - 1, first - 1, -1):
        for k in range(after_start[i - first], after_start[i - first + 1]):
            j = after[k] - first
            free[j] -= 1
            before[free[j]] = i
    return after, after_start, before, before_start


@compiled
def _extend(row, first, scores, state, before, before_start, best, previous):
    """Find the best path that ends in a row; paths that end before it must be known."""
    best_sum, best_previous = scores[row], -1
    for k in range(before_start[row - first], before_start[row - first + 1]):
        candidate = before[k]
        if state[candidate] == FREE:
            total = best[candidate - first] + scores[row]
            if total > best_sum:
                best_sum, best_previous = total, candidate
    best[row - first] = best_sum
    previous[row - first] = best_previous


@compiled
def _sift_down(heap, keys, position, size):
    """Restore the heap below a position: the largest key on top, of equal ones the first row."""
    row, key = heap[position], keys[position]
    while True:
        child = 2 * position + 1
        if child >= size:
            break
        other = child + 1
        if other < size and (
            keys[other] > keys[child] or (keys[other] == keys[child] and heap[other] < heap[child])
        ):
            child = other
        if keys[child] < key or (keys[child] == key and heap[child] > row):
            break
        heap[position], keys[position] = heap[child], keys[child]
        position = child
    heap[position], keys[position] = row, key


@compiled
def _pop_best(heap, keys, size, first, state, best):
    """Bring the free row with the best path to the top; returns the size of the heap, 0 if none.

    Sums only ever fall, so a key is never too small and is put right when it comes to the top.
    """
    while size > 0:
        row = heap[0]
        if state[row] != FREE:
            size -= 1
            heap[0], keys[0] = heap[size], keys[size]
        elif keys[0] != best[row - first]:
            keys[0] = best[row - first]
        else:
            break
        if size > 0:
            _sift_down(heap, keys, 0, size)
    return size


@compiled
def _remove(row, new_state, first, state, links):
    """Take a free row out of the graph; returns how many links went with it."""
    after, after_start, before, before_start = links
    state[row] = new_state
    lost = 0
    for k in range(after_start[row - first], after_start[row - first + 1]):
        lost += state[after[k]] == FREE
    for k in range(before_start[row - first], before_start[row - first + 1]):
        lost += state[before[k]] == FREE
    return lost


@compiled
def _repair(removed, frames, first, scores, state, links, best, previous, waiting, queue):
    """Find the best paths again where one went through a removed row, and nowhere else.

    A row is looked at again if its best path came from a removed row, or from a row whose own best
    sum has just changed. Removed rows and queue are both in order of frame, so that everything
    before a row is settled when its turn comes.
    """
    after, after_start, before, before_start = links
    done, head, tail = 0, 0, 0
    while done < len(removed) or head < tail:
        if head == tail or (done < len(removed) and frames[removed[done]] <= frames[queue[head]]):
            row = removed[done]
            done += 1
        else:
            row = queue[head]
            head += 1
            waiting[row - first] = False
            old = best[row - first]
            _extend(row, first, scores, state, before, before_start, best, previous)
            if best[row - first] == old:
                continue
        for k in range(after_start[row - first], after_start[row - first + 1]):
            follower = after[k]
            if (
                state[follower] == FREE
                and previous[follower - first] == row
                and not waiting[follower - first]
            ):
                waiting[follower - first] = True
                queue[tail] = follower
                tail += 1


@compiled
def _run_rounds(
    boxes, scores, frames, runs, link_iou, nms_iou, weight_of_max, min_path_score, state, new, path
):
    """Choose the best path, rescore and suppress, until no link is left or no path is worth it."""
    first, num_rows = runs[0], runs[-1] - runs[0]
    links = _link(boxes, frames, state, runs, link_iou)
    links_left = len(links[2])
    if links_left == 0:
        return
    best = np.empty(num_rows)
    previous = np.empty(num_rows, dtype=np.int64)
    heap = np.empty(num_rows, dtype=np.int64)
    keys = np.empty(num_rows)
    size = 0
    run_of_row = np.empty(num_rows, dtype=np.int64)
    for run in range(len(runs) - 1):
        for row in range(runs[run], runs[run + 1]):
            run_of_row[row - first] = run
            if state[row] == FREE:
                _extend(row, first, scores, state, links[2], links[3], best, previous)
                heap[size], keys[size] = row, best[row - first]
                size += 1
    for position in range(size // 2 - 1, -1, -1):
        _sift_down(heap, keys, position, size)

    chosen = np.empty(len(runs), dtype=np.int64)
    removed = np.empty(num_rows, dtype=np.int64)
    waiting = np.zeros(num_rows, dtype=np.bool_)
    queue = np.empty(num_rows, dtype=np.int64)
    while links_left > 0:
        size = _pop_best(heap, keys, size, first, state, best)
        if size == 0 or keys[0] < min_path_score:
            break
        length, highest = 0, 0.0
        row = heap[0]
        while row != -1:
            chosen[length] = row
            highest = max(highest, scores[row])
            length += 1
            row = previous[row - first]
        score = (1.0 - weight_of_max) * (keys[0] / length) + weight_of_max * highest
        num_removed = 0
        for k in range(length - 1, -1, -1):
            row = chosen[k]
            new[row] = score
            if length > 1:
                path[row] = chosen[length - 1]
            links_left -= _remove(row, TAKEN, first, state, links)
            removed[num_removed] = row
            num_removed += 1
            run = run_of_row[row - first]
            for other in range(runs[run], runs[run + 1]):
                if state[other] == FREE and _overlap(boxes, row, other) >= nms_iou:
                    links_left -= _remove(other, SUPPRESSED, first, state, links)
                    removed[num_removed] = other
                    num_removed += 1
        _repair(
            removed[:num_removed],
            frames,
            first,
            scores,
            state,
            links,
            best,
            previous,
            waiting,
            queue,
        )


@compiled
def rescore_video(
    boxes, scores, frames, class_starts, link_iou, nms_iou, weight_of_max, min_path_score, nms_first
):
    """Seq-NMS of one video.

    Args:
        boxes: shape [N, 4], float64, XYXY.
        scores: shape [N], float64.
        frames: shape [N], int64.
        class_starts: shape [C + 1], int64, first row of each class, and N.
        link_iou: least IoU of linked boxes.
        nms_iou: IoU from which a chosen box suppresses others, and of ordinary NMS.
        weight_of_max: share of a path's highest score in its new score; the rest is the mean.
        min_path_score: least sum of a path's scores.
        nms_first: ordinary NMS comes before the linking instead of at the end.

    Returns:
        Whether a row stays [N], its score [N], and the first row of its path [N], -1 for none.
    """
    state = np.zeros(len(scores), dtype=np.int8)
    new = scores.copy()
    path = np.full(len(scores), -1, dtype=np.int64)
    for index in range(len(class_starts) - 1):
        runs = _frame_runs(frames, class_starts[index], class_starts[index + 1])
        if nms_first:
            _suppress_frames(boxes, state, runs, nms_iou)
        _run_rounds(
            boxes,
            scores,
            frames,
            runs,
            link_iou,
            nms_iou,
            weight_of_max,
            min_path_score,
            state,
            new,
            path,
        )
        if not nms_first:
            # A taken row has suppressed all that it overlaps, and the free ones still have the
            # scores that they are sorted by, so that ordinary NMS is left to these.
            _suppress_frames(boxes, state, runs, nms_iou)
    return state != SUPPRESSED, new, path
