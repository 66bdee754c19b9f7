"""Inventory: buyers race for the last items; some commit, some release, some just leave."""

from __future__ import annotations

import asyncio
import random
from collections import Counter

from norikv_resp.client import NoriKVClient
from norikv_resp.demos.show import table
from norikv_resp.patterns.inventory import (
    InsufficientStockError,
    InventoryManager,
    ReservationError,
)

STOCK = 60
BUYERS = 8
HOLD_MS = 400
SKU = "demo:lamp"
NAIVE = "demo:stock"


async def naive(client: NoriKVClient) -> int:
    """Read the stock, and write it back less one while there is any."""
    sold = 0
    while (stock := int((await client.get(NAIVE)).value)) > 0:
        await client.put(NAIVE, str(stock - 1))
        sold += 1
    return sold


async def buyer(url: str, told: Counter[str], reservations: list[str]) -> None:
    """Reserve until nothing is left for longer than any hold lasts."""
    async with NoriKVClient.from_url(url) as client:
        inventory = InventoryManager(client)
        patience = 0
        while patience < HOLD_MS // 10 * 2:
            try:
                reservation = await inventory.reserve(SKU, 1, HOLD_MS)
            except InsufficientStockError:
                patience += 1
                await asyncio.sleep(0.01)
                continue
            patience = 0
            reservations.append(reservation)
            told["reserved"] += 1
            chance = random.random()
            try:
                if chance < 0.5:
                    await inventory.commit(reservation)
                    await inventory.commit(reservation)  # a repeat changes nothing
                    told["committed"] += 1
                elif chance < 0.7:
                    await inventory.release(reservation)
                    told["released"] += 1
            except ReservationError:
                pass  # too late: the hold has ended, and somebody else may have the lamp


async def run(url: str) -> bool:
    """Sell everything; True when exactly as much is sold as there was."""
    async with NoriKVClient.from_url(url) as client:
        print(f"{BUYERS} buyers, {STOCK} lamps; an uncommitted hold ends after {HOLD_MS} ms")
        await client.put(NAIVE, str(STOCK))
        oversold = sum(await asyncio.gather(*(naive(client) for _ in range(BUYERS))))
        print(f"  get, then put: {oversold} sold")
        await client.delete(NAIVE)

        inventory = InventoryManager(client)
        await client.delete(f"inventory:item:{SKU}")
        await inventory.create_item(SKU, STOCK)
        told: Counter[str] = Counter()
        reservations: list[str] = []
        await asyncio.gather(*(buyer(url, told, reservations) for _ in range(BUYERS)))
        left = await inventory.get_available(SKU)
        abandoned = told["reserved"] - told["committed"] - told["released"]
        print(f"  {told['reserved']} reservations, {abandoned} of them abandoned: all came back")
        table(
            ("version", "stock", "sold", "left"),
            [
                ("get, then put", STOCK, oversold, 0),
                ("InventoryManager", STOCK, told["committed"], left),
            ],
        )
        keys = [f"inventory:reservation:{each}" for each in reservations]
        await client.execute("DEL", f"inventory:item:{SKU}", *keys)
    return told["committed"] == STOCK and left == 0
