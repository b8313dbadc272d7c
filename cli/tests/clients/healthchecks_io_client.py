"""Runs every call of the unmodified PyPI client healthchecks-io 0.4.4 against a running Thrum, except flips: it
expects a list where servers return an object."""

import asyncio
import sys

from healthchecks_io import AsyncClient, CheckCreate, CheckTrap, CheckUpdate, Client
from healthchecks_io.client.exceptions import CheckNotFoundError, HCAPIAuthError

site, key, ping_key = sys.argv[1:4]
urls = {"api_url": f"{site}/api/", "ping_url": f"{site}/ping/"}

for version in (1, 2, 3):
    client = Client(api_key=key, ping_key=ping_key, api_version=version, **urls)
    name = f"client v{version}"
    created = client.create_check(
        CheckCreate(name=name, tags="client py", desc="made by a client", timeout=3600, grace=120, unique=["name"])
    )
    assert (created.name, created.tags, created.status) == (name, "client py", "new"), created
    assert (created.timeout, created.grace) == (3600, 120), created
    again = client.create_check(CheckCreate(name=name, timeout=3600, grace=180, tags="client py", unique=["name"]))
    assert again.uuid == created.uuid and again.grace == 180, again
    cron = client.update_check(created.uuid, CheckUpdate(schedule="*/5 * * * *", tz="Europe/Berlin"))
    assert cron.timeout is None, cron
    client.update_check(created.uuid, CheckUpdate(timeout=60, grace=60, tags="client py"))

    assert client.success_ping(uuid=created.uuid, data="all good") == (True, "OK")
    assert client.start_ping(uuid=created.uuid) == (True, "OK")
    assert client.fail_ping(uuid=created.uuid, data="no good") == (True, "OK")
    assert client.exit_code_ping(0, uuid=created.uuid) == (True, "OK")
    assert client.exit_code_ping(7, uuid=created.uuid) == (True, "OK")
    with CheckTrap(client, uuid=created.uuid):
        pass
    try:
        with CheckTrap(client, uuid=created.uuid):
            raise RuntimeError("it broke")
    except RuntimeError:
        pass
    check = client.get_check(created.uuid)
    assert check.n_pings == 9 and check.status == "down", check
    pings = client.get_check_pings(created.uuid)
    assert [ping.type for ping in pings] == [
        "fail", "start", "success", "start", "fail", "success", "fail", "start", "success",
    ], pings
    assert pings[0].number_of_pings == 9, pings[0]

    client.success_ping(uuid=created.uuid)
    listed = client.get_checks(tags=["client", "py"])
    assert created.uuid in [check.uuid for check in listed]
    assert client.get_checks(tags=["client", "nobody"]) == []
    assert client.pause_check(created.uuid).status == "paused"
    badges = client.get_badges()
    assert badges["client"].svg.startswith(site) and "*" in badges, badges
    assert client.get_integrations()[0].name == "ops"

    if version == 3:
        slugged = client.create_check(CheckCreate(name="slugged"))
        client._client.post(f"{site}/api/v3/checks/{slugged.uuid}", json={"slug": "slugged"}).raise_for_status()
        assert client.success_ping(slug="slugged") == (True, "OK")
        client.delete_check(slugged.uuid)
    client.delete_check(created.uuid)
    try:
        client.get_check(created.uuid)
        raise AssertionError("a deleted check must not be found")
    except CheckNotFoundError:
        pass

try:
    Client(api_key="x" * 32, **urls).get_checks()
    raise AssertionError("a wrong key must be refused")
except HCAPIAuthError:
    pass


async def concurrently() -> None:
    async with AsyncClient(api_key=key, ping_key=ping_key, api_version=3, **urls) as client:
        created = await client.create_check(CheckCreate(name="async", timeout=60, grace=60))
        await asyncio.gather(*(client.success_ping(uuid=created.uuid) for _ in range(20)))
        check = await client.get_check(created.uuid)
        assert check.n_pings == 20 and check.status == "up", check
        await client.delete_check(created.uuid)


asyncio.run(concurrently())
print("ok")
