"""The coded data of a JPEG file, read symbol by symbol without making pixels: is every block there?

Where data are cut off before an end marker, overwritten or flipped, libjpeg (so DALI and OpenCV) fills in
grey or wrong blocks, prints a line and returns an image all the same. This walk finds what libjpeg prints
about. It knows baseline files of one scan (ITU-T T.81, F.2.2), which training sets are made of.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from data_pipeline.compiled import compiled_now
from data_pipeline.damage import damage

SOUND, CUT, BAD_CODE, TOO_MUCH, UNKNOWN = range(5)
_REASONS = {
    CUT: "its JPEG data end before the last block",
    BAD_CODE: "its JPEG data hold a code that is not in their tables",
    TOO_MUCH: "its JPEG data go on after the last block",
}
# Codes up to this length are looked up at once, longer ones bit by bit.
_LOOK = 9


def decode_check(payload: npt.NDArray[np.uint8]) -> str | None:
    """What is wrong with one encoded image, uint8 [n], by reading all of it; None if nothing is found."""
    from data_pipeline.decode import decode_image

    reason = damage(payload) or scan_damage(payload)
    if reason is None and decode_image(payload.data) is None:
        return "its image cannot be decoded"
    return reason


def missing_data(payload: npt.NDArray[np.uint8]) -> str | None:
    """As `scan_damage`, but for what only stands behind the last block and changes no pixel."""
    found = int(_scan(payload))
    return None if found == TOO_MUCH else _REASONS.get(found)


def scan_damage(payload: npt.NDArray[np.uint8]) -> str | None:
    """What is wrong with the coded data of a baseline JPEG file, uint8 [n]; None if nothing, or for others.

    Flipped bits that still make the right number of blocks cannot be told from an image.
    """
    return _REASONS.get(int(_scan(payload)))


@compiled_now
def _word(data: Any, at: int) -> Any:
    return (np.int64(data[at]) << 8) + np.int64(data[at + 1])


@compiled_now
def _scan(data: Any) -> Any:
    size = len(data)
    # Huffman tables, DC 0 to 3 and then AC: what the next bits mean (length << 8 | symbol), and for longer
    # codes the first number beyond each length's codes, and what makes a code its symbol's place.
    look = np.zeros((8, 1 << _LOOK), dtype=np.int32)
    limit = np.zeros((8, 17), dtype=np.int32)
    shift = np.zeros((8, 17), dtype=np.int32)
    symbols = np.zeros((8, 256), dtype=np.uint8)
    components = np.zeros((4, 2), dtype=np.int64)  # identifier, number of blocks in an MCU
    restart: Any = 0
    mcus: Any = 0
    at: Any = 2
    while True:
        if at + 4 > size or data[at] != 0xFF:
            return UNKNOWN
        marker = data[at + 1]
        if marker == 0xFF:
            at += 1
            continue
        end = at + 2 + _word(data, at + 2)
        if end + 1 > size:
            return UNKNOWN
        at += 4
        if marker == 0xC4:
            found = _tables(data, at, end, look, limit, shift, symbols)
            if found != SOUND:
                return found
        elif marker == 0xC0 or marker == 0xC1:
            if end < at + 6 or data[at + 5] < 1 or data[at + 5] > 4 or end < at + 6 + 3 * data[at + 5]:
                return UNKNOWN
            mcus = _frame(data, at, components)
        elif marker == 0xDD and end >= at + 2:
            restart = _word(data, at)
        elif marker == 0xDA:
            break
        elif marker >= 0xC2 and marker <= 0xCF:
            return UNKNOWN
        at = end
    count = np.int64(data[at])
    if mcus == 0 or count > 4 or end < at + 1 + 2 * count or (count < 4 and components[count, 1]):
        return UNKNOWN
    tables = np.zeros((10, 2), dtype=np.int64)  # of the MCU's blocks, DC and AC
    blocks = 0
    for place in range(count):
        pair = np.int64(data[at + 2 + 2 * place])
        if np.int64(data[at + 1 + 2 * place]) != components[place, 0]:
            return UNKNOWN
        for _ in range(components[place, 1]):
            if blocks == 10 or (pair >> 4) > 3 or (pair & 15) > 3:
                return UNKNOWN
            tables[blocks, 0], tables[blocks, 1] = pair >> 4, 4 + (pair & 15)
            blocks += 1
    return _blocks(data, end, mcus, restart, tables[:blocks], look, limit, shift, symbols)


@compiled_now
def _tables(data: Any, at: Any, end: Any, look: Any, limit: Any, shift: Any, symbols: Any) -> Any:
    """Read the Huffman tables of one segment."""
    while at + 17 <= end:
        table = (np.int64(data[at]) >> 4) * 4 + (np.int64(data[at]) & 15)
        total = data[at + 1 : at + 17].astype(np.int64).sum()
        if table > 7 or (np.int64(data[at]) & 15) > 3 or at + 17 + total > end:
            return UNKNOWN
        look[table] = 0
        code, first = 0, 0
        for length in range(1, 17):
            count = np.int64(data[at + length])
            if first + count > 256 or code + count > 1 << length:
                return BAD_CODE
            shift[table, length] = first - code
            for _ in range(count):
                symbol = data[at + 17 + first]
                symbols[table, first] = symbol
                if length <= _LOOK:
                    start = code << (_LOOK - length)
                    look[table, start : start + (1 << (_LOOK - length))] = (length << 8) | np.int64(symbol)
                first += 1
                code += 1
            limit[table, length] = code
            code <<= 1
        at += 17 + total
    return SOUND


@compiled_now
def _frame(data: Any, at: Any, components: Any) -> Any:
    """Fill in the components; how many MCUs the image has."""
    count = np.int64(data[at + 5])
    widest: Any = 1
    highest: Any = 1
    for place in range(count):
        across, down = np.int64(data[at + 7 + 3 * place]) >> 4, np.int64(data[at + 7 + 3 * place]) & 15
        components[place, 0], components[place, 1] = np.int64(data[at + 6 + 3 * place]), across * down
        widest, highest = max(widest, across), max(highest, down)
    if count == 1:
        # The one component of a grey image is not interleaved, whatever its sampling says.
        components[0, 1], widest, highest = 1, 1, 1
    return -(-_word(data, at + 1) // (8 * highest)) * -(-_word(data, at + 3) // (8 * widest))


@compiled_now
def _blocks(
    data: Any, at: Any, mcus: Any, restart: Any, tables: Any, look: Any, limit: Any, shift: Any, symbols: Any
) -> Any:
    size = len(data)
    held, bits = np.uint64(0), 0  # the last bits read, and how many of them are not used yet
    owed = 0  # bits of zeros that were put in after the data's end
    for mcu in range(mcus):
        if restart and mcu and mcu % restart == 0:
            if bits - owed >= 8:
                return TOO_MUCH
            # What was put in before a restart marker is dropped with it.
            bits, owed = 0, 0
            if at + 2 > size or data[at] != 0xFF or (np.int64(data[at + 1]) & 0xF8) != 0xD0:
                return CUT
            at += 2
        for block in range(len(tables)):
            place: Any = 0
            while place < 64:
                table = tables[block, 0] if place == 0 else tables[block, 1]
                # 16 bits of code and 16 of value at most.
                while bits <= 32:
                    byte: Any = 0
                    if at + 1 < size and (data[at] != 0xFF or data[at + 1] == 0):
                        byte = np.int64(data[at])
                        at += 2 if byte == 0xFF else 1
                    else:
                        owed += 8
                    held = (held << np.uint64(8)) | np.uint64(byte)
                    bits += 8
                entry = look[table, np.int64(held >> np.uint64(bits - _LOOK)) & ((1 << _LOOK) - 1)]
                length, symbol = entry >> 8, entry & 255
                if length == 0:
                    length = _LOOK + 1
                    while length <= 16:
                        code = np.int64(held >> np.uint64(bits - length)) & ((1 << length) - 1)
                        if code < limit[table, length]:
                            break
                        length += 1
                    if length > 16:
                        return CUT if owed >= bits else BAD_CODE
                    symbol = np.int64(symbols[table, code + shift[table, length]])
                bits -= length + (symbol & 15)
                if bits < owed:
                    return CUT
                if place == 0:
                    place = 1
                elif symbol & 15:
                    place += (symbol >> 4) + 1
                    if place > 64:
                        return BAD_CODE
                elif symbol == 0xF0:
                    place += 16
                else:
                    break
    if bits - owed >= 8:
        return TOO_MUCH
    while at + 1 < size and data[at] == 0xFF and data[at + 1] == 0xFF:
        at += 1
    return SOUND if at + 1 < size and data[at] == 0xFF and data[at + 1] == 0xD9 else TOO_MUCH
