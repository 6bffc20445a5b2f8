"""Writes golden.csv: indicator values of the C library TA-Lib over the bars of the built-in tape.

    pip install TA-Lib==0.8.2 numpy        # the wheel carries the C library 0.8.1
    python3 golden.py > golden.csv

The bars are built here by own code (flat bars for empty seconds, the tape played in a loop), so the test also checks the
bar builder. Columns: symbol, bar, close, RSI14, ADX14, +DI14, -DI14, ATR14, MACD histogram 12/26/9, Bollinger 20/2 upper, lower.
"""

import pathlib
import numpy
import talib

TAPE = pathlib.Path(__file__).parent.parent / "data" / "binance_spot_2025-03-25.tape"
BARS = 900
EVERY = 53

lines = TAPE.read_text().splitlines()
seconds = int(lines[0].split("seconds=")[1])
trades = {0: {}, 1: {}, 2: {}}
now_ms = 0
for line in lines[1:]:
    delta, symbol, kind, *numbers = line.split(" ")
    now_ms += int(delta)
    if kind in "BS":
        trades[int(symbol)].setdefault(now_ms // 1000, []).append(int(numbers[0]))

for index, name in enumerate(["BTCUSDT", "ETHUSDT", "SOLUSDT"]):
    high, low, close = [], [], []
    for second in range(BARS):
        prices = trades[index].get(second % seconds)
        if prices:
            high.append(max(prices) / 100)
            low.append(min(prices) / 100)
            close.append(prices[-1] / 100)
        elif close:
            for series in (high, low, close):
                series.append(close[-1])
    high, low, close = (numpy.array(series) for series in (high, low, close))
    upper, _, lower = talib.BBANDS(close, 20, 2, 2)
    columns = [
        close,
        talib.RSI(close, 14),
        talib.ADX(high, low, close, 14),
        talib.PLUS_DI(high, low, close, 14),
        talib.MINUS_DI(high, low, close, 14),
        talib.ATR(high, low, close, 14),
        talib.MACD(close, 12, 26, 9)[2],
        upper,
        lower,
    ]
    for bar in range(299, len(close), EVERY):
        print(",".join([name, str(bar)] + [repr(float(column[bar])) for column in columns]))
