"""The paths of messages, against what defines them."""

import pytest

from mlepi.models.message_paths import message_paths, path_blocks


def test_paths_keep_natural_parity_and_order():
    paths = message_paths(1, 3)
    assert len(paths) == 10  # 0⊗l→l four times; 1⊗0→1, 1⊗1→0,2, 1⊗2→1,3, 1⊗3→2
    assert all((l1 + l2 + l3) % 2 == 0 and abs(l1 - l2) <= l3 <= l1 + l2 for l1, l2, l3 in paths)
    assert paths == sorted(paths, key=lambda path: (path[2], path[0], path[1]))


@pytest.mark.parametrize("l_max_in", [0, 1, 2])
def test_blocks_cover_couplings_and_messages_once(l_max_in):
    paths = tuple(message_paths(l_max_in, 3))
    blocks = path_blocks(paths)
    columns = [
        column for block in blocks for column in range(block.coupling.start, block.coupling.stop)
    ]
    assert columns == list(range(len(columns)))
    rows = [
        list(range(block.messages.start, block.messages.stop, block.messages.step))
        for block in blocks
    ]
    assert [len(row) for row in rows] == [2 * l3 + 1 for _, _, l3 in paths]
    assert sorted(row for of_path in rows for row in of_path) == list(
        range(sum(2 * path[2] + 1 for path in paths))
    )
