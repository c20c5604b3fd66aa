"""What a server does not do, told to the client: a status, a code for programs, a sentence for people."""

from typing import Any

__all__ = ["Refusal"]


class Refusal(Exception):
    """An answer that is an error; `position` is the stream's true one, where that helps."""

    def __init__(self, status: int, code: str, message: str, position: int | None = None) -> None:
        super().__init__(message)
        self.status, self.code, self.message, self.position = status, code, message, position

    def body(self) -> dict[str, Any]:
        """As JSON."""
        error: dict[str, Any] = {"code": self.code, "message": self.message}
        if self.position is not None:
            error["position"] = self.position
        return {"error": error}
