from __future__ import annotations

import json
import stat
from concurrent.futures import ThreadPoolExecutor

import pytest

from assay.errors import InvalidInput
from assay.gateway.keys import Clock, ClockJumped, KeyRing, SigningKey
from assay.puzzles.claims import Claims
from assay.puzzles.rejection import Rejection
from assay.puzzles.tokens import mint, open_token

T0 = 1_600_000_000.0
HOUR = 3600.0


class Time:
    def __init__(self, now=T0):
        self.now = now

    def __call__(self):
        return self.now


def ring(path, time, **options):
    return KeyRing(path, rotation=24 * HOUR, overlap=2 * HOUR, clock=time, **options)


def token(keys, now):
    kid, key = keys.signing(now)
    claims = Claims(
        kid=kid, target64=1 << 50, k=4, purpose="credit", sub="a", price_units=1.0,
        iat=int(now), exp=int(now + HOUR), jti="00" * 16,
    )  # fmt: skip
    return mint(claims, key)


def test_a_new_file_is_private_and_whole(tmp_path):
    path = tmp_path / "gateway.keys"
    keys = ring(path, Time())
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    kid, secret = keys.signing(T0)
    assert len(secret) == 32
    assert dict(keys.live(T0)) == {kid: secret}
    assert list(tmp_path.glob("*.partial")) == []
    again = ring(path, Time())
    assert again.signing(T0) == (kid, secret)
    assert again.secret("accounts") == keys.secret("accounts")


def test_a_file_that_others_can_read_is_refused(tmp_path):
    path = tmp_path / "gateway.keys"
    ring(path, Time())
    path.chmod(0o640)
    with pytest.raises(InvalidInput, match="mode 0640"):
        ring(path, Time())


@pytest.mark.parametrize(
    "change",
    [
        lambda d: d.update(format="other"),
        lambda d: d.update(root="00"),
        lambda d: d["keys"][0].update(secret="zz"),
        lambda d: d["keys"][0].update(not_after=0.0),
        lambda d: d["keys"][0].pop("retires"),
        lambda d: d.update(keys=7),
    ],
)
def test_a_file_that_is_no_key_file_is_refused(tmp_path, change):
    path = tmp_path / "gateway.keys"
    ring(path, Time())
    data = json.loads(path.read_text())
    change(data)
    path.write_text(json.dumps(data))
    with pytest.raises(InvalidInput, match="not a key file"):
        ring(path, Time())


def test_derived_secrets_differ_by_purpose_and_by_file(tmp_path):
    one, two = ring(tmp_path / "1", Time()), ring(tmp_path / "2", Time())
    secrets = {one.secret("accounts"), one.secret("offers"), two.secret("accounts"), one.signing(T0)[1]}
    assert len(secrets) == 4
    assert all(len(secret) == 32 for secret in secrets)


def test_rotation_overlaps_so_that_no_challenge_dies_early(tmp_path):
    time = Time()
    keys = ring(tmp_path / "gateway.keys", time)
    signed, kids = [], []
    for step in range(24 * 6):  # six days, an hour a step
        time.now = T0 + step * HOUR
        kids.append(keys.signing(time.now)[0])
        signed.append((time.now, token(keys, time.now)))
        for at, old in signed:
            if time.now <= at + HOUR:  # unexpired
                assert open_token(old, keys.live(time.now)).iat == int(at)
        assert len(keys.live(time.now)) <= 3
    assert len(set(kids)) == 6
    assert kids.count(kids[30]) == 24
    assert stat.S_IMODE(keys.path.stat().st_mode) == 0o600
    with pytest.raises(Rejection) as caught:
        open_token(signed[0][1], keys.live(time.now))
    assert caught.value.reason == "signature"


def test_the_next_key_is_known_to_all_before_it_signs(tmp_path):
    time = Time()
    first = ring(tmp_path / "gateway.keys", time)
    second = ring(tmp_path / "gateway.keys", time)
    time.now = T0 + 23.5 * HOUR
    first.signing(time.now)  # looks, and writes the next key
    time.now += 60.0
    known = second.live(time.now)
    time.now = T0 + 24 * HOUR + 1.0
    kid, key = first.signing(time.now)
    assert known[kid] == key  # known half an hour before
    assert second.signing(time.now) == (kid, key)


def test_replicas_that_start_at_once_share_one_key(tmp_path):
    path = tmp_path / "gateway.keys"
    with ThreadPoolExecutor(8) as pool:
        rings = list(pool.map(lambda _: ring(path, Time()), range(8)))
    assert len({keys.signing(T0) for keys in rings}) == 1
    assert len({keys.secret("accounts") for keys in rings}) == 1


def test_rotation_on_demand_retires_the_signing_key_at_once(tmp_path):
    time = Time()
    keys, other = ring(tmp_path / "k", time), ring(tmp_path / "k", time)
    old_kid, _ = keys.signing(time.now)
    old = token(keys, time.now)
    time.now += 100.0
    assert keys.refresh(rotate=True) is True
    kid, _ = keys.signing(time.now)
    assert kid != old_kid
    time.now += 2.0
    assert open_token(old, keys.live(time.now))
    assert other.signing(time.now)[0] == kid  # the file was seen to change
    assert open_token(token(keys, time.now), other.live(time.now))
    time.now += 2 * HOUR
    assert old_kid not in keys.live(time.now)


def test_a_gateway_that_was_off_for_days_makes_a_key(tmp_path):
    time = Time()
    keys = ring(tmp_path / "k", time)
    old, root = keys.signing(T0)[0], keys.secret("accounts")
    time.now = T0 + 10 * 24 * HOUR
    back = ring(tmp_path / "k", time)
    assert back.signing(time.now)[0] != old
    assert len(back.live(time.now)) == 1
    assert back.secret("accounts") == root


def test_a_read_only_file_is_read_again_but_never_written(tmp_path):
    time, path = Time(), tmp_path / "k"
    with pytest.raises(InvalidInput, match="cannot read"):
        ring(path, time, read_only=True)
    writer = ring(path, time)
    reader = ring(path, time, read_only=True)
    before = path.read_bytes()
    time.now = T0 + 30 * HOUR
    with pytest.raises(InvalidInput, match="no key"):
        reader.signing(time.now)
    assert path.read_bytes() == before
    assert writer.signing(time.now) == reader.signing(time.now)


def test_secrets_do_not_show(tmp_path):
    keys = ring(tmp_path / "k", Time())
    kid, secret = keys.signing(T0)
    key = SigningKey(kid, secret, 0.0, 1.0, 2.0)
    assert secret.hex() not in repr(key)
    assert repr(secret) not in repr(key)
    assert [len(entry) for entry in keys.public()] == [3]
    assert secret not in keys.public()[0]


@pytest.mark.parametrize("options", [{"rotation": 1.0}, {"overlap": 0.0}])
def test_times_that_make_no_sense_are_refused(tmp_path, options):
    with pytest.raises(InvalidInput, match="rotate"):
        KeyRing(tmp_path / "k", **options)


def test_the_clock_never_shows_an_earlier_time_and_issues_nothing_while_behind():
    time = Time()
    clock = Clock(time)
    assert clock.issuing() == T0
    time.now = T0 + 100.0
    assert clock() == T0 + 100.0
    time.now = T0 + 99.0  # a small correction
    assert clock() == T0 + 100.0
    assert clock.issuing() == T0 + 100.0
    time.now = T0 - 500.0
    assert clock() == T0 + 100.0
    with pytest.raises(ClockJumped, match="600 s behind"):
        clock.issuing()
    time.now = T0 + 101.0
    assert clock.issuing() == T0 + 101.0


def test_the_clock_takes_note_of_what_others_have_seen():
    time = Time()
    clock = Clock(time)
    clock.seen(T0 + 50.0)
    with pytest.raises(ClockJumped):
        clock.issuing()
    assert clock() == T0 + 50.0
