"""Generations: foldings of a projection beside each other, so that one can take another's place.

`generation` says what one is, `records` reads and writes them, `tables` makes and drops their
tables, `filling` fills one at full speed, `meeting` brings ranges to one position, `comparing` and
`switching` decide which one answers, and `keeping` sees a rebuild through, whichever process dies.
`calls` and `pausing` are what an operator asks for, and `telling` says how projections stand.
"""
