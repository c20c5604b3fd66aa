"""Who may come in: a file of tokens is written and read line by line, and requests are let in at a rate."""

from pathlib import Path
from types import SimpleNamespace

import pytest

from unrolled.errors import InputError
from unrolled.server.access import Access, add_token, read_tokens
from unrolled.server.refusal import Refusal

HASH = 64 * "0"


@pytest.mark.parametrize("end", ["", "\n"])
def test_a_token_goes_on_a_line_of_its_own(tmp_path: Path, end: str) -> None:
    tokens = tmp_path / "tokens"
    add_token(tokens, "alice")
    tokens.write_text(tokens.read_text().removesuffix("\n") + end)
    add_token(tokens, "bob")
    assert list(read_tokens(tokens).values()) == ["alice", "bob"]
    assert tokens.read_text().count("\n") == 2


def test_a_token_is_in_no_file_and_its_hash_is_for_the_owner_alone(tmp_path: Path) -> None:
    tokens = tmp_path / "tokens"
    made = {add_token(tokens, "alice") for _ in range(2)}
    assert len(made) == 2 and not any(token in tokens.read_text() for token in made)
    assert tokens.stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize("tenant", ["", "a b", "a\n", "ä", 65 * "a", f"bob {HASH}"])
def test_what_is_no_name_of_a_tenant_is_refused(tmp_path: Path, tenant: str) -> None:
    with pytest.raises(InputError, match=r"^tenant is .*, expected 1 to 64 letters, digits or"):
        add_token(tmp_path / "tokens", tenant)
    assert not list(tmp_path.iterdir())


def test_where_no_file_can_be_written_is_said(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"/none/tokens cannot be written: No such file or directory\.$"):
        add_token(tmp_path / "none" / "tokens", "alice")


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        (None, r"cannot be read: No such file or directory; `unrolled token` makes one\.$"),
        (b"\xff", "cannot be read: 'utf-8' codec can't decode"),
        (b"", "has no tokens, expected at least one: `unrolled token TENANT --tokens "),
        (b"alice\n", "line 1: expected a tenant and a SHA-256, as"),
        (f"alice {HASH}\nbob {HASH} x\n".encode(), "line 2: expected"),
    ],
)
def test_what_is_no_file_of_tokens_is_said(tmp_path: Path, content: bytes | None, sentence: str) -> None:
    tokens = tmp_path / "tokens"
    if content is not None:
        tokens.write_bytes(content)
    with pytest.raises(InputError, match=sentence):
        read_tokens(tokens)


@pytest.fixture
def tokens(tmp_path: Path) -> dict[str, str]:
    """The token of each of two tenants, by the tenant's name."""
    return {tenant: add_token(tmp_path / "tokens", tenant) for tenant in ("alice", "bob")}


def test_a_token_is_its_tenants_however_its_header_is_written(tmp_path: Path, tokens: dict[str, str]) -> None:
    access = Access(read_tokens(tmp_path / "tokens"), 0)
    for tenant, token in tokens.items():
        for header in (f"Bearer {token}", f"bearer  {token} "):
            assert access.tenant(header) == tenant
    assert Access(None, 0).tenant(None) == Access(None, 0).tenant("Bearer any")


@pytest.mark.parametrize(
    ("header", "sentence"),
    [
        (None, "the request needs a token"),
        ("{alice}", "the request needs a token"),
        ("Basic {alice}", "the request needs a token"),
        ("Bearer", "the token is none of those that the server read"),
        ("Bearer {alice}x", "the token is none of those that the server read"),
        ("Bearer \udcff", "the token is none of those that the server read"),
    ],
)
def test_who_has_no_token_is_told_so(
    tmp_path: Path, tokens: dict[str, str], header: str | None, sentence: str
) -> None:
    with pytest.raises(Refusal, match=f"^{sentence}") as refused:
        Access(read_tokens(tmp_path / "tokens"), 0).tenant(header and header.format(**tokens))
    assert refused.value.status == 401


@pytest.mark.parametrize(
    ("rate", "times", "let_in"),
    [
        (0, [0] * 9, [True] * 9),
        (
            2,
            [0, 0, 0, 0.5, 0.5, 0.75, 1, 9, 9, 9],
            [True, True, False, True, False, False, True, True, True, False],
        ),
        (0.5, [0, 0, 1, 2, 3, 4, 99, 99], [True, False, False, True, False, True, True, False]),
    ],
)
def test_requests_come_at_a_rate_and_in_bursts_of_as_many_or_of_one(
    monkeypatch: pytest.MonkeyPatch, rate: float, times: list[float], let_in: list[bool]
) -> None:
    now = iter(time for time in times for _ in "ab")
    monkeypatch.setattr("unrolled.server.access.time", SimpleNamespace(monotonic=lambda: next(now)))
    access = Access(None, rate)

    def comes(tenant: str) -> bool:
        try:
            access.count(tenant)
        except Refusal as refusal:
            assert (refusal.status, refusal.code) == (429, "too_many_requests")
            return False
        return True

    assert [[comes(tenant) for tenant in "ab"] for _ in times] == [[one, one] for one in let_in]
