"""A key and the claims of one request, shared by the tests of the puzzles."""

from assay.puzzles.claims import Claims
from assay.puzzles.difficulty import target64

KEY = bytes(range(32))
KEYS = {"k1": KEY}
QUERY = Claims(
    kid="k1",
    alg="sha256",
    k=4,
    target64=target64(8, 4),
    purpose="query",
    model="net",
    model_version="1",
    sub="account-1",
    client="",
    query_digest="cd" * 32,
    n_items=2,
    price_units=2.5,
    policy_version=3,
    iat=1000,
    exp=1060,
    jti="ab" * 16,
)
