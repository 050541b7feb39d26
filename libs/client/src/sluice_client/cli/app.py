"""Command line of `sluice`: commands, options and help. Their work is in `commands/`.

A command imports it when it runs: otherwise even the help would wait for the libraries of all."""

from __future__ import annotations

from datetime import datetime
from functools import partial
from typing import TYPE_CHECKING, Annotated, Any, NoReturn

import typer

from sluice_client.cli.arguments import Command, Group, Where
from sluice_client.cli.drive_path import DrivePath
from sluice_client.cli.security import security_of
from sluice_client.model import Access, DrivePolicy, Integrity, Quota, Role, UploadState

if TYPE_CHECKING:
    from sluice_client.cli.session import Work

# Size: the declaration of every command.
app = typer.Typer(
    name="sluice",
    cls=Group,
    help="Upload files to Sluice, find them, and get them back.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
drive_app = typer.Typer(
    cls=Group, help="Create drives, list them, and grant roles on them.", no_args_is_help=True
)
app.add_typer(drive_app, name="drive")
quota_app = typer.Typer(
    cls=Group, help="Limit drives and the tenant, and show their usage.", no_args_is_help=True
)
app.add_typer(quota_app, name="quota")

Server = Annotated[
    str | None,
    typer.Option(
        "--server",
        metavar="HOST:PORT",
        help="Address, https://HOST:PORT for TLS; else SLUICE_SERVER, else this machine's server.",
        show_default=False,
    ),
]
Token = Annotated[
    str | None,
    typer.Option(
        "--token-file",
        metavar="FILE",
        help="Has the bearer token; else SLUICE_TOKEN_FILE, else the token in SLUICE_TOKEN.",
        show_default=False,
    ),
]
"""The file of the token: other users of the machine can read the arguments of a process."""
Json = Annotated[bool, typer.Option("--json", help="One JSON object per line on stdout.")]


def _place(text: str) -> DrivePath:
    try:
        return DrivePath.parse(text)
    except ValueError as error:
        raise typer.BadParameter(str(error)) from None


def _node(text: str) -> DrivePath:
    place = _place(text)
    if not place.path or place.path.endswith("/"):
        raise typer.BadParameter(f"{text!r} names no node; write DRIVE:PATH")
    return place


def _drive_name(text: str) -> str:
    if not text or ":" in text or "/" in text:
        raise typer.BadParameter(f"{text!r} is not a drive name")
    return text


Node = Annotated[DrivePath, typer.Argument(parser=_node, metavar="DRIVE:PATH", help="The node.")]
Place = Annotated[
    DrivePath,
    typer.Argument(
        parser=_place, metavar="DRIVE:[PREFIX]", help="A drive, optionally with a path prefix."
    ),
]
UploadId = Annotated[str, typer.Argument(metavar="UPLOAD", help="Upload id.")]
Limit = Annotated[int | None, typer.Option(min=1, help="At most this many.", show_default=False)]
Parallel = Annotated[int, typer.Option("--parallel", "-p", min=1, max=256, help="Files at once.")]


def _show_version(requested: bool) -> None:
    if requested:
        from importlib.metadata import version

        typer.echo(f"sluice {version('sluice-client')}")
        raise typer.Exit


@app.callback()
def _main(
    context: typer.Context,
    server: Server = None,
    token: Token = None,
    _version: Annotated[
        bool,
        typer.Option("--version", callback=_show_version, is_eager=True, help="Print the version."),
    ] = False,
) -> None:
    context.obj = Where(server, token)


def _where(context: typer.Context, server: str | None, token: str | None) -> Where:
    above = context.obj if isinstance(context.obj, Where) else Where()
    return Where(server, token, security_of(context)).or_else(above)


def _run(work: Work, where: Where, *, json_lines: bool, resume_hint: str = "") -> NoReturn:
    from sluice_client.cli.session import run

    run(work, where, json_lines=json_lines, resume_hint=resume_hint)


@app.command(cls=Command)
def upload(
    context: typer.Context,
    paths: Annotated[
        list[str],
        typer.Argument(
            metavar="PATH…",
            help="Files and folders. A folder keeps its name; written with a / at its end, only"
            " its contents go up. - is standard input; it and a pipe need --name.",
        ),
    ],
    drive: Annotated[
        str, typer.Option("--drive", "-d", callback=_drive_name, help="Drive to upload to.")
    ],
    prefix: Annotated[str, typer.Option(help="Put in front of every path.")] = "",
    name: Annotated[
        str | None,
        typer.Option(help="Of the node, for a single file or stream.", show_default=False),
    ] = None,
    parallel: Parallel = 4,
    json_lines: Json = False,
    sha256: Annotated[
        bool, typer.Option("--sha256", help="Compute SHA-256 and have the server verify it.")
    ] = False,
    chunk_size: Annotated[
        int | None,
        typer.Option(min=1, help="Bytes of a chunk; else the server's choice.", show_default=False),
    ] = None,
    if_absent: Annotated[
        bool, typer.Option("--if-absent", help="Never replace an existing node.")
    ] = False,
    content_type: Annotated[
        str | None, typer.Option(help="MIME type; else guessed from the name.", show_default=False)
    ] = None,
    server: Server = None,
    token: Token = None,
) -> None:
    """Upload files and folders. Run the same command again to resume an interrupted upload."""
    from sluice_client.cli.commands.scan import naming_problem
    from sluice_client.cli.commands.upload import UploadOptions, UploadRun

    problem = naming_problem(paths, name)
    if problem is not None:
        raise typer.BadParameter(problem, param_hint="--name")
    options = UploadOptions(
        paths=paths,
        drive=drive,
        prefix=prefix,
        name=name,
        parallel=parallel,
        content_type=content_type,
        if_absent=if_absent,
        sha256=sha256,
        chunk_size=chunk_size,
    )
    _run(
        lambda client, out: UploadRun(client, out, options).run(),
        _where(context, server, token),
        json_lines=json_lines,
        resume_hint="Run the same command again to resume.",
    )


@app.command(cls=Command)
def status(
    context: typer.Context,
    upload_id: UploadId,
    json_lines: Json = False,
    server: Server = None,
    token: Token = None,
) -> None:
    """Show the state of an upload."""
    from sluice_client.cli.commands import uploads

    work = partial(uploads.status, upload_id=upload_id)
    _run(work, _where(context, server, token), json_lines=json_lines)


@app.command(cls=Command)
def watch(
    context: typer.Context,
    upload_id: UploadId,
    json_lines: Json = False,
    server: Server = None,
    token: Token = None,
) -> None:
    """Follow an upload until it has ended; exits 0 when it is completed."""
    from sluice_client.cli.commands import uploads

    work = partial(uploads.watch, upload_id=upload_id)
    _run(work, _where(context, server, token), json_lines=json_lines)


@app.command(cls=Command)
def abort(
    context: typer.Context,
    upload_id: UploadId,
    json_lines: Json = False,
    server: Server = None,
    token: Token = None,
) -> None:
    """Abort an upload that is not complete."""
    from sluice_client.cli.commands import uploads

    work = partial(uploads.abort, upload_id=upload_id)
    _run(work, _where(context, server, token), json_lines=json_lines)


@app.command("uploads", cls=Command)
def list_uploads(
    context: typer.Context,
    state: Annotated[
        list[UploadState] | None,
        typer.Option("--state", case_sensitive=False, help="Only these.", show_default=False),
    ] = None,
    limit: Limit = None,
    json_lines: Json = False,
    server: Server = None,
    token: Token = None,
) -> None:
    """List uploads, newest first."""
    from sluice_client.cli.commands import uploads

    work = partial(uploads.list_uploads, states=state or [], limit=limit)
    _run(work, _where(context, server, token), json_lines=json_lines)


def _moment(text: str) -> datetime:
    from sluice_client.cli.commands import audit as audit_work

    try:
        return audit_work.moment_of(text)
    except ValueError as error:
        raise typer.BadParameter(str(error)) from None


@app.command(cls=Command)
def audit(
    context: typer.Context,
    since: Annotated[
        datetime | None,
        typer.Option(
            parser=_moment,
            metavar="TIME",
            help="From this time on: 2026-11-30T08:00:00Z, or an age such as 24h.",
            show_default=False,
        ),
    ] = None,
    until: Annotated[
        datetime | None,
        typer.Option(parser=_moment, metavar="TIME", help="Before this time.", show_default=False),
    ] = None,
    subject: Annotated[str, typer.Option(help="Only of this subject.", show_default=False)] = "",
    action: Annotated[
        str, typer.Option(help="Only this action, e.g. DeleteNode.", show_default=False)
    ] = "",
    limit: Limit = None,
    json_lines: Json = False,
    server: Server = None,
    token: Token = None,
) -> None:
    """List the audit log of the tenant, newest first; needs the scope tenant:admin."""
    from sluice_client.cli.commands import audit as audit_work

    work = partial(
        audit_work.list_entries,
        since=since,
        until=until,
        subject=subject,
        action=action,
        limit=limit,
    )
    _run(work, _where(context, server, token), json_lines=json_lines)


@app.command(cls=Command)
def ls(
    context: typer.Context,
    place: Place,
    limit: Limit = None,
    json_lines: Json = False,
    server: Server = None,
    token: Token = None,
) -> None:
    """List nodes: size, time, path."""
    from sluice_client.cli.commands import nodes

    work = partial(nodes.ls, place=place, limit=limit)
    _run(work, _where(context, server, token), json_lines=json_lines)


@app.command(cls=Command)
def stat(
    context: typer.Context,
    node: Node,
    json_lines: Json = False,
    server: Server = None,
    token: Token = None,
) -> None:
    """Show the record of a node."""
    from sluice_client.cli.commands import nodes

    work = partial(nodes.stat, place=node)
    _run(work, _where(context, server, token), json_lines=json_lines)


@app.command(cls=Command)
def rm(
    context: typer.Context,
    node: Node,
    json_lines: Json = False,
    server: Server = None,
    token: Token = None,
) -> None:
    """Delete a node."""
    from sluice_client.cli.commands import nodes

    work = partial(nodes.rm, place=node)
    _run(work, _where(context, server, token), json_lines=json_lines)


@app.command(cls=Command)
def get(
    context: typer.Context,
    place: Place,
    destination: Annotated[
        str | None,
        typer.Argument(
            metavar="[DEST]",
            help="File, or folder (created if written with a / at its end); - is standard output.",
            show_default=False,
        ),
    ] = None,
    recursive: Annotated[
        bool, typer.Option("--recursive", "-r", help="Download every node with this prefix.")
    ] = False,
    thumbnail: Annotated[
        int | None,
        typer.Option(
            min=1, metavar="SIZE", help="The thumbnail of this size instead.", show_default=False
        ),
    ] = None,
    parallel: Parallel = 4,
    json_lines: Json = False,
    server: Server = None,
    token: Token = None,
) -> None:
    """Download a node, or everything under a prefix; downloads are verified."""
    from sluice_client.cli.commands.get import get_one
    from sluice_client.cli.commands.get_recursive import RecursiveGet

    where = _where(context, server, token)
    if recursive:
        if destination == "-":
            raise typer.BadParameter("--recursive needs a folder, not -")
        if thumbnail is not None:
            raise typer.BadParameter("--thumbnail is for one node, without --recursive")
        _run(
            lambda client, out: RecursiveGet(client, out, place, destination, parallel).run(),
            where,
            json_lines=json_lines,
        )
    node = _node(str(place))
    if destination == "-" and json_lines:
        raise typer.BadParameter("--json and - both want standard output")
    work = partial(get_one, place=node, destination=destination, thumbnail_size=thumbnail or 0)
    _run(work, where, json_lines=json_lines)


def _role(text: str) -> str:
    roles = [role.value for role in Role if role is not Role.UNKNOWN]
    if text not in roles:
        raise typer.BadParameter(f"{text!r} is no role; use {', '.join(roles)}")
    return text


def _size(text: str) -> int:
    from sluice_client.cli.commands import quotas

    try:
        return quotas.parse_size(text)
    except ValueError as error:
        raise typer.BadParameter(str(error)) from None


DriveName = Annotated[
    str, typer.Argument(callback=_drive_name, metavar="NAME", help="Name of the drive.")
]
GivenRole = Annotated[
    str,
    typer.Option(
        "--role", callback=_role, metavar="reader|writer|owner", help="Role on the drive."
    ),
]
Subject = Annotated[
    str, typer.Option("--subject", help="Subject of a token (sub).", show_default=False)
]
GroupName = Annotated[
    str, typer.Option("--group", help="Group of a token (groups).", show_default=False)
]


@drive_app.command("create", cls=Command)
def drive_create(
    context: typer.Context,
    name: DriveName,
    integrity: Annotated[
        Integrity, typer.Option(help="When SHA-256 is computed.")
    ] = Integrity.SHA256_ASYNC,
    part_bytes: Annotated[
        int, typer.Option(min=0, help="Size of a part; 0 is the server's default.")
    ] = 0,
    require_uniform: Annotated[
        bool,
        typer.Option("--require-uniform", help="Take only uploads that declare their sizes."),
    ] = False,
    bucket: Annotated[str, typer.Option(help="Bucket of the objects; empty is the server's.")] = "",
    key_prefix: Annotated[str, typer.Option(help="Put in front of every object's key.")] = "",
    storage_class: Annotated[str, typer.Option(help="S3 storage class of the objects.")] = "",
    encryption: Annotated[str, typer.Option(help="S3 server-side encryption, e.g. aws:kms.")] = "",
    drop_location: Annotated[
        bool, typer.Option("--drop-location", help="Do not keep where pictures were taken.")
    ] = False,
    access: Annotated[Access, typer.Option(help="Who may use the drive.")] = Access.TENANT,
    json_lines: Json = False,
    server: Server = None,
    token: Token = None,
) -> None:
    """Create a drive."""
    from sluice_client.cli.commands import drives

    policy = DrivePolicy(
        integrity=integrity,
        part_bytes=part_bytes,
        require_uniform=require_uniform,
        storage_class=storage_class,
        encryption=encryption,
        drop_location=drop_location,
        access=access,
    )
    work = partial(drives.create, name=name, bucket=bucket, key_prefix=key_prefix, policy=policy)
    _run(work, _where(context, server, token), json_lines=json_lines)


@drive_app.command("list", cls=Command)
def drive_list(
    context: typer.Context,
    json_lines: Json = False,
    server: Server = None,
    token: Token = None,
) -> None:
    """List drives."""
    from sluice_client.cli.commands import drives

    _run(drives.list_all, _where(context, server, token), json_lines=json_lines)


@drive_app.command("update", cls=Command)
def drive_update(
    context: typer.Context,
    name: DriveName,
    access: Annotated[
        Access | None, typer.Option(help="Who may use the drive.", show_default=False)
    ] = None,
    read_only: Annotated[
        bool | None,
        typer.Option("--read-only/--read-write", help="Refuse uploads.", show_default=False),
    ] = None,
    json_lines: Json = False,
    server: Server = None,
    token: Token = None,
) -> None:
    """Change the policy of a drive."""
    from sluice_client.cli.commands import drives

    given = {"access": access, "read_only": read_only}
    changes = {field: value for field, value in given.items() if value is not None}
    if not changes:
        raise typer.BadParameter("nothing to change; give --access, --read-only or --read-write")
    work = partial(drives.update, name=name, changes=changes)
    _run(work, _where(context, server, token), json_lines=json_lines)


@drive_app.command("delete", cls=Command)
def drive_delete(
    context: typer.Context,
    name: DriveName,
    json_lines: Json = False,
    server: Server = None,
    token: Token = None,
) -> None:
    """Delete a drive without nodes and open uploads."""
    from sluice_client.cli.commands import drives

    work = partial(drives.delete, name=name)
    _run(work, _where(context, server, token), json_lines=json_lines)


@drive_app.command("grant", cls=Command)
def drive_grant(
    context: typer.Context,
    name: DriveName,
    role: GivenRole,
    subject: Subject = "",
    group: GroupName = "",
    json_lines: Json = False,
    server: Server = None,
    token: Token = None,
) -> None:
    """Give a subject or a group a role on a drive."""
    from sluice_client.cli.commands import drives

    _check_grantee(subject, group)
    work = partial(drives.grant, name=name, role=Role(role), subject=subject, group=group)
    _run(work, _where(context, server, token), json_lines=json_lines)


@drive_app.command("revoke", cls=Command)
def drive_revoke(
    context: typer.Context,
    name: DriveName,
    subject: Subject = "",
    group: GroupName = "",
    json_lines: Json = False,
    server: Server = None,
    token: Token = None,
) -> None:
    """Take the role of a subject or a group away."""
    from sluice_client.cli.commands import drives

    _check_grantee(subject, group)
    work = partial(drives.revoke, name=name, subject=subject, group=group)
    _run(work, _where(context, server, token), json_lines=json_lines)


@drive_app.command("grants", cls=Command)
def drive_grants(
    context: typer.Context,
    name: DriveName,
    json_lines: Json = False,
    server: Server = None,
    token: Token = None,
) -> None:
    """List the roles on a drive."""
    from sluice_client.cli.commands import drives

    work = partial(drives.list_grants, name=name)
    _run(work, _where(context, server, token), json_lines=json_lines)


def _check_grantee(subject: str, group: str) -> None:
    if bool(subject) == bool(group):
        raise typer.BadParameter("give either --subject or --group")


DriveOrTenant = Annotated[
    str,
    typer.Argument(
        callback=lambda name: _drive_name(name) if name else "",
        metavar="[NAME]",
        help="Name of the drive.",
        show_default=False,
    ),
]
WholeTenant = Annotated[bool, typer.Option("--tenant", help="The whole tenant instead of a drive.")]


@quota_app.command("set", cls=Command)
def quota_set(
    context: typer.Context,
    name: DriveOrTenant = "",
    tenant: WholeTenant = False,
    max_bytes: Annotated[
        str, typer.Option(metavar="SIZE", help="Most bytes, e.g. 500GiB; 0 is no limit.")
    ] = "0",
    max_nodes: Annotated[int, typer.Option(min=0, help="Most nodes; 0 is no limit.")] = 0,
    max_open_uploads: Annotated[
        int, typer.Option(min=0, help="Most open uploads; 0 is no limit.")
    ] = 0,
    json_lines: Json = False,
    server: Server = None,
    token: Token = None,
) -> None:
    """Set the limits of a drive or of the tenant; those that are not given are removed."""
    from sluice_client.cli.commands import quotas

    _check_place(name, tenant)
    quota = Quota(_size(max_bytes), max_nodes, max_open_uploads)
    work = partial(quotas.set_limits, drive=name, quota=quota)
    _run(work, _where(context, server, token), json_lines=json_lines)


@quota_app.command("show", cls=Command)
def quota_show(
    context: typer.Context,
    name: DriveOrTenant = "",
    tenant: WholeTenant = False,
    json_lines: Json = False,
    server: Server = None,
    token: Token = None,
) -> None:
    """Show limits and usage of a drive or of the tenant."""
    from sluice_client.cli.commands import quotas

    _check_place(name, tenant)
    _run(partial(quotas.show, drive=name), _where(context, server, token), json_lines=json_lines)


def _check_place(name: str, tenant: bool) -> None:
    if bool(name) == tenant:
        raise typer.BadParameter("give either the name of a drive or --tenant")


@app.command(cls=Command)
def login(
    context: typer.Context,
    gateway: Annotated[
        str | None,
        typer.Option(
            metavar="URL",
            help="URL of the gateway; else SLUICE_GATEWAY, else this machine's.",
            show_default=False,
        ),
    ] = None,
    email: Annotated[str | None, typer.Option(help="Else asked for.", show_default=False)] = None,
    json_lines: Json = False,
    server: Server = None,
) -> None:
    """Log in at a gateway; its token is used where no other one is given.

    The password is asked for, or read from standard input. The token goes to the hosts of the
    gateway and of the server only.
    """
    from sluice_client.cli.commands import logins

    logins.login(_where(context, server, None), gateway, email, json_lines=json_lines)


@app.command(cls=Command)
def logout(context: typer.Context, json_lines: Json = False) -> None:
    """End the session, and remove its tokens from this machine."""
    from sluice_client.cli.commands import logins

    logins.logout(_where(context, None, None), json_lines=json_lines)


@app.command(cls=Command)
def whoami(context: typer.Context, json_lines: Json = False) -> None:
    """Show who is logged in."""
    from sluice_client.cli.commands import logins

    logins.whoami(_where(context, None, None), json_lines=json_lines)


_HANDED_OVER: dict[str, Any] = {
    "allow_extra_args": True,
    "ignore_unknown_options": True,
    "help_option_names": [],
}
"""For commands of another distribution: it parses their arguments, --help among them."""


@app.command(context_settings=_HANDED_OVER)
def events(context: typer.Context) -> None:
    """Follow the events of uploads and nodes: `sluice events tail`."""
    from sluice_client.cli.commands import serve as server_commands

    raise typer.Exit(server_commands.events(context.args))


@app.command(context_settings=_HANDED_OVER)
def serve(context: typer.Context) -> None:
    """Run all of Sluice on this machine, in one process."""
    from sluice_client.cli.commands import serve as server_commands

    raise typer.Exit(server_commands.serve(context.args))


@app.command(context_settings=_HANDED_OVER)
def token(context: typer.Context) -> None:
    """Make tokens for the server of this machine: `sluice token create`."""
    from sluice_client.cli.commands import serve as server_commands

    raise typer.Exit(server_commands.token(context.args))


@app.command(context_settings=_HANDED_OVER)
def admin(context: typer.Context) -> None:
    """Look into uploads and drives, sweep, and wait for a drain, as an operator of the server."""
    from sluice_client.cli.commands import serve as server_commands

    raise typer.Exit(server_commands.admin(context.args))
