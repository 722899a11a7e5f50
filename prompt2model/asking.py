"""What the requests of one call share while they are under way, and how they end together."""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field

import aiohttp

from prompt2model.conversation import Reply
from prompt2model.errors import TeacherError
from prompt2model.pace import Window
from prompt2model.patience import Health

Answered = tuple[int, Reply]

GRACE_SECONDS = 1.0
"""For the requests under way when a server is given up."""


@dataclass
class Asking:
    """What the requests of one call share."""

    session: aiohttp.ClientSession
    window: Window
    health: Health
    put: Callable[[list[Answered]], None]
    under_way: set[asyncio.Task[None]] = field(default_factory=set)

    def has_begun(self, task: asyncio.Task[None]) -> None:
        self.under_way.add(task)
        task.add_done_callback(self.under_way.discard)

    async def watch(self) -> None:
        """Raises TeacherError when the server has been silent for too long."""
        try:
            await self.health.watch()
        except TeacherError:
            if not self.window.is_closed:  # else the request that ended all says why
                await self.end(GRACE_SECONDS)
                raise

    async def end(self, seconds: float) -> None:
        """Begin no request any more, and wait so long for those under way: they may be paid for. A server that is up,
        and has a reason to refuse further ones, still answers them."""
        self.window.close()
        if others := self.under_way - {asyncio.current_task()}:
            await asyncio.wait(others, timeout=seconds)
