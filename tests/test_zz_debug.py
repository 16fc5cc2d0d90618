from test_postgres_any_value import *
import time


async def test_full(neighbours):
    for number in range(9):
        t = time.time()
        found = await failures(neighbours, VALUES, number=number)
        with open("/tmp/harm-full.txt", "a") as f:
            f.write(f"== {number} {time.time() - t:.0f} s\n" + "\n".join(found) + "\n")
