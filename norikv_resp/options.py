"""The option table: one row per option drives files, flags, CONFIG and the documentation.

Each class below is a section and each attribute a row: `tcp_keepalive` is the option
`tcp-keepalive`. A section with an `ignored` reason holds Redis's options that have no effect
here; they are read, shown and set, so that existing configurations and clients work.

    python -m norikv_resp.options --write    regenerate conf/norikv.conf, docs/configuration.md
    python -m norikv_resp.options --check    exit with 1 if they are out of date
"""

from __future__ import annotations

import sys
from typing import Any, ClassVar

from norikv_resp.option_types import (
    INT_MAX,
    LONG_MAX,
    Choice,
    Directive,
    Events,
    Flag,
    Integer,
    Memory,
    Numbers,
    Octal,
    Option,
    OutputLimit,
    OutputLimits,
    SavePoints,
    Secret,
    Text,
    Words,
)

KB, MB, GB = 1 << 10, 1 << 20, 1 << 30


class Section:
    """A group of rows; the docstring says what they are about."""

    title: ClassVar[str]
    ignored: ClassVar[str] = ""


# ---------------------------------------------------------------------------
# Options that work
# ---------------------------------------------------------------------------


class Network(Section):
    """Where the server listens and how it treats connections."""

    title = "Network"

    port = Integer(
        6379,
        0,
        65535,
        "TCP port. 0 means that the server does not listen on TCP.",
        live=False,
        suggested=True,
    )
    bind = Words(
        ("127.0.0.1", "-::1"),
        "Addresses to listen on, IPv4 or IPv6. An address that begins with a minus may be"
        " missing on this machine. `*` is every IPv4 address, `::*` every IPv6 address.",
        live=False,
        suggested=True,
    )
    protected_mode = Flag(
        True,
        "While no password is set, refuse clients that come from another machine.",
        suggested=True,
    )
    unixsocket = Text("", "Path of a Unix socket to listen on as well.", live=False)
    unixsocketperm = Octal(
        0, 0, 0o777, "Permissions of the Unix socket. 0 leaves them to the umask.", live=False
    )
    tcp_backlog = Integer(511, 0, INT_MAX, "Connections that may wait to be accepted.", live=False)
    tcp_keepalive = Integer(
        300,
        0,
        INT_MAX,
        "Seconds of silence after which TCP probes a connection. 0 turns probes off.",
    )
    timeout = Integer(
        0, 0, INT_MAX, "Seconds after which an idle client is disconnected. 0 means never."
    )


class Clients(Section):
    """What one client, and all of them together, may use."""

    title = "Clients and limits"

    maxclients = Integer(
        10000,
        1,
        INT_MAX,
        "Connections at the same time. At start it is lowered to what the limit on open files"
        " allows.",
    )
    client_output_buffer_limit = OutputLimits(
        {
            "normal": OutputLimit(0, 0, 0),
            "slave": OutputLimit(256 * MB, 64 * MB, 60),
            "pubsub": OutputLimit(32 * MB, 8 * MB, 60),
        },
        "Replies that may wait for a client of a class: a client above the hard limit, or for"
        " some seconds above the soft one, is disconnected. 0 means no limit.",
    )
    client_query_buffer_limit = Memory(GB, MB, LONG_MAX, "Size of one request of one client.")
    proto_max_bulk_len = Memory(512 * MB, MB, LONG_MAX, "Size of one argument of a request.")
    max_multibulk_elements = Integer(
        MB, KB, INT_MAX, "Arguments of one request. A longer request is a protocol error."
    )
    commands_per_turn = Integer(
        200,
        1,
        1000000,
        "Commands of one client that run before the other clients get their turn.",
    )
    scan_cursors = Integer(
        10000,
        16,
        10000000,
        "SCAN positions that are remembered for all clients; the longest unused is forgotten,"
        " and its cursor becomes invalid.",
    )
    tracking_table_max_keys = Integer(
        1000000, 0, LONG_MAX, "Keys that client-side caching remembers. 0 means no bound."
    )
    hz = Integer(10, 1, 500, "How often a second periodic work runs.")


class Durability(Section):
    """The data directory, and when an answered write is on disk."""

    title = "Data and durability"

    dir = Text(
        "./data",
        "Directory of the data. It is created with mode 0700, and one server at a time can use it.",
        live=False,
        suggested=True,
    )
    databases = Integer(
        16, 1, 65535, "Number of databases that SELECT can choose.", live=False, suggested=True
    )
    appendfsync = Choice(
        "always",
        ("everysec", "always", "no"),
        "When writes are synced to disk. `always`: before they are answered, so that they"
        " survive a power failure. `everysec` and `no`: answered when the operating system has"
        " them, so that they survive a crash of the server; synced every second, or when the"
        " operating system likes.",
        suggested=True,
    )
    commit_log = Text(
        "local",
        "Implementation of the commit log: `local`, or `package.module:factory`.",
        live=False,
    )
    commit_log_segment_size = Memory(
        32 * MB, MB, GB, "Size of one file of the commit log.", live=False
    )
    commit_log_budget = Memory(
        64 * MB,
        4 * MB,
        LONG_MAX,
        "Commit log after which its records are settled in LevelDB, and its files used again."
        " A start replays about this much.",
    )
    min_free_disk = Memory(
        512 * MB,
        0,
        LONG_MAX,
        "Free disk space under which writes are refused; reads are not.",
    )


class MemoryUse(Section):
    """Memory is a cache of the disk; these bound it."""

    title = "Memory and LevelDB"

    cache_size = Memory(
        96 * MB, 0, LONG_MAX, "Decoded keys and values kept for fast reads.", suggested=True
    )
    overlay_size = Memory(
        96 * MB,
        4 * MB,
        LONG_MAX,
        "Committed changes that wait in memory to settle in LevelDB. Writers are slowed from"
        " half of it on.",
    )
    leveldb_write_buffer = Memory(
        64 * MB, MB, GB, "LevelDB's write buffer. It can be in memory twice.", live=False
    )
    leveldb_block_cache = Memory(
        16 * MB, 0, LONG_MAX, "LevelDB's cache of uncompressed table blocks.", live=False
    )
    leveldb_max_open_files = Integer(
        5000,
        64,
        1000000,
        "Files that LevelDB keeps open. Fewer than it has tables (2 MB each) makes reads slow.",
        live=False,
    )


class Idempotency(Section):
    """How long the answers of IDEM commands are kept."""

    title = "Idempotency"

    idempotency_window = Integer(
        86400,
        1,
        LONG_MAX // 1000,
        "Seconds for which the answer to an IDEM command is kept, unless its TTL says otherwise.",
        suggested=True,
    )
    idempotency_max_records = Integer(
        10000000, 1, LONG_MAX, "Answers that are kept at most, on disk, in all databases."
    )


class Vectors(Section):
    """How vector sets are searched; the vectors themselves are data as everything else."""

    title = "Vector sets"

    vector_index_process = Flag(
        True,
        "Whether large vector sets are indexed, in a process of their own. Without it every search"
        " compares with every vector.",
        live=False,
    )
    vector_small_set = Integer(
        1000,
        0,
        20000,
        "Vectors up to which a set is searched in the server, exactly, without the index process.",
    )
    vector_cache_size = Memory(
        64 * MB, 0, LONG_MAX, "Memory for small vector sets that were searched lately."
    )
    vector_fresh_soft = Integer(
        5000,
        1,
        LONG_MAX,
        "Vectors of a set that may wait to be put into its index. They are searched exactly; beyond"
        " this number, writers are slowed.",
    )
    vector_fresh_max = Integer(
        20000,
        1,
        LONG_MAX,
        "Vectors at which writers are slowed so much that no more wait, but for a command of each.",
    )
    vector_search_threads = Integer(
        2, 1, 1024, "Threads of the index process that search at the same time.", live=False
    )
    vector_search_deadline = Integer(
        2000,
        10,
        INT_MAX,
        "Milliseconds after which a search that the index process has not answered is answered by"
        " comparing with every vector. A process that is silent five times as long is replaced.",
    )


class Security(Section):
    """Who may connect and what they may do."""

    title = "Security"

    requirepass = Secret(b"", "Password of the default user. Empty means none.")
    aclfile = Text("", "File of ACL users, for ACL LOAD and ACL SAVE.", live=False)
    user = Directive("user <name> <rule> …", "An ACL user and its rules.")
    acl_pubsub_default = Choice(
        "resetchannels",
        ("allchannels", "resetchannels"),
        "Channels that a new ACL user may use.",
    )
    acllog_max_len = Integer(128, 0, LONG_MAX, "Entries that ACL LOG keeps.")
    enable_debug_command = Choice(
        "no",
        ("no", "yes", "local"),
        "Whether DEBUG may be used; `local` allows it to clients on this machine.",
        live=False,
    )


class Modules(Section):
    """Command families that are loaded at start."""

    title = "Modules and files"

    include = Directive("include <path>", "Read another file here. The path may hold `*` and `?`.")
    loadmodule = Directive(
        "loadmodule <path> <argument> …", "Load a module: the path of its folder, its arguments."
    )
    bundled_modules = Words(
        ("all",),
        "Modules of this package to load: `all`, or their names; empty loads none.",
        live=False,
    )


class Process(Section):
    """The process and what it writes about itself."""

    title = "Process, logs and monitoring"

    daemonize = Flag(False, "Run in the background.", live=False)
    pidfile = Text("", "File for the process id. Empty means none.", live=False)
    loglevel = Choice(
        "notice",
        ("debug", "verbose", "notice", "warning", "nothing"),
        "How much is logged.",
        suggested=True,
    )
    logfile = Text("", "File for the log. Empty means standard error.", live=False)
    slowlog_log_slower_than = Integer(
        10000,
        -1,
        LONG_MAX,
        "Microseconds from which a command is noted in SLOWLOG. 0 notes every command, -1 none.",
    )
    slowlog_max_len = Integer(128, 0, LONG_MAX, "Commands that SLOWLOG keeps.")
    slowlog_entry_max_argc = Integer(32, 2, INT_MAX, "Arguments of a command that SLOWLOG keeps.")
    slowlog_entry_max_string_len = Integer(
        128, 1, LONG_MAX, "Bytes of an argument that SLOWLOG keeps."
    )
    latency_monitor_threshold = Integer(
        0, 0, LONG_MAX, "Milliseconds from which LATENCY notes an event. 0 turns it off."
    )
    latency_tracking = Flag(True, "Whether INFO latencystats has percentiles per command.")
    latency_tracking_info_percentiles = Numbers(
        ("50", "99", "99.9"),
        0,
        100,
        "The percentiles of INFO latencystats.",
        error="latency-tracking-info-percentiles should contain a list of percentiles"
        " between 0 and 100",
    )
    notify_keyspace_events = Events(
        "",
        "Events about keys that are published: K and E choose the channels, A or single"
        " letters the events. Empty means none.",
    )


class Encodings(Section):
    """Redis's thresholds for compact encodings.

    Every element of a collection is its own record on disk here, so these only decide what
    OBJECT ENCODING answers.
    """

    title = "Encodings that OBJECT ENCODING reports"

    hash_max_listpack_entries = Integer(
        512, 0, LONG_MAX, "Fields of a `listpack` hash.", aliases=("hash-max-ziplist-entries",)
    )
    hash_max_listpack_value = Memory(
        64,
        0,
        LONG_MAX,
        "Bytes of a value in a `listpack` hash.",
        aliases=("hash-max-ziplist-value",),
    )
    list_max_listpack_size = Integer(
        -2,
        -INT_MAX - 1,
        INT_MAX,
        "Elements of a `listpack` list, or -1 to -5 for 4 to 64 kilobytes.",
        aliases=("list-max-ziplist-size",),
    )
    list_compress_depth = Integer(0, 0, INT_MAX, "Has no effect on any answer.")
    set_max_intset_entries = Integer(512, 0, LONG_MAX, "Members of an `intset` set.")
    set_max_listpack_entries = Integer(128, 0, LONG_MAX, "Members of a `listpack` set.")
    set_max_listpack_value = Memory(64, 0, LONG_MAX, "Bytes of a member of a `listpack` set.")
    zset_max_listpack_entries = Integer(
        128,
        0,
        LONG_MAX,
        "Members of a `listpack` sorted set.",
        aliases=("zset-max-ziplist-entries",),
    )
    zset_max_listpack_value = Memory(
        64,
        0,
        LONG_MAX,
        "Bytes of a member of a `listpack` sorted set.",
        aliases=("zset-max-ziplist-value",),
    )
    hll_sparse_max_bytes = Memory(3000, 0, LONG_MAX, "Bytes of a sparse HyperLogLog.")
    stream_node_max_bytes = Memory(4096, 0, LONG_MAX, "Bytes of a node of a stream.")
    stream_node_max_entries = Integer(100, 0, LONG_MAX, "Entries of a node of a stream.")
    stream_idmp_duration = Integer(
        100, 0, LONG_MAX, "Default of a stream's idempotent production: duration."
    )
    stream_idmp_maxsize = Integer(
        100, 0, LONG_MAX, "Default of a stream's idempotent production: remembered ids."
    )
    array_slice_size = Integer(4096, 1, INT_MAX, "Elements of a slice of an array.")
    array_sparse_kmax = Integer(10, 0, INT_MAX, "Elements of a sparse slice of an array.")
    array_sparse_kmin = Integer(5, 0, INT_MAX, "Elements under which a slice is sparse again.")


# ---------------------------------------------------------------------------
# Redis's options that have no effect
# ---------------------------------------------------------------------------


class Snapshots(Section):
    """Snapshots and the append-only file."""

    title = "Snapshots and the append-only file"
    ignored = (
        "every write is in the commit log before it is answered; appendfsync says when it is synced"
    )

    save = SavePoints(())
    appendonly = Flag(False)
    appendfilename = Text("appendonly.aof", live=False)
    appenddirname = Text("appendonlydir", live=False)
    no_appendfsync_on_rewrite = Flag(False)
    auto_aof_rewrite_percentage = Integer(100, 0, INT_MAX)
    auto_aof_rewrite_min_size = Memory(64 * MB, 0, LONG_MAX)
    aof_load_truncated = Flag(True)
    aof_load_corrupt_tail_max_size = Memory(0, 0, LONG_MAX)
    aof_use_rdb_preamble = Flag(True)
    aof_timestamp_enabled = Flag(False)
    aof_rewrite_incremental_fsync = Flag(True)
    aof_disable_auto_gc = Flag(False)
    dbfilename = Text("dump.rdb")
    rdbcompression = Flag(True)
    rdbchecksum = Flag(True, live=False)
    rdb_del_sync_files = Flag(False)
    rdb_save_incremental_fsync = Flag(True)
    stop_writes_on_bgsave_error = Flag(True)
    sanitize_dump_payload = Choice("no", ("no", "yes", "clients"))
    shutdown_timeout = Integer(10, 0, INT_MAX)
    shutdown_on_sigint = Words(("default",))
    shutdown_on_sigterm = Words(("default",))


class Eviction(Section):
    """Eviction and memory tuning."""

    title = "Eviction and memory tuning"
    ignored = "data is on disk and is never evicted; cache-size and overlay-size bound the memory"

    maxmemory = Memory(0, 0, 2**64 - 1)
    maxmemory_policy = Choice(
        "noeviction",
        (
            "volatile-lru",
            "volatile-lfu",
            "volatile-random",
            "volatile-ttl",
            "volatile-lrm",
            "allkeys-lru",
            "allkeys-lfu",
            "allkeys-random",
            "allkeys-lrm",
            "noeviction",
        ),
    )
    maxmemory_samples = Integer(5, 1, 64)
    maxmemory_eviction_tenacity = Integer(10, 0, 100)
    maxmemory_clients = Memory(0, -100, LONG_MAX, percent=True)
    lfu_log_factor = Integer(10, 0, INT_MAX)
    lfu_decay_time = Integer(1, 0, INT_MAX)
    activedefrag = Flag(False)
    active_defrag_cycle_min = Integer(1, 1, 99)
    active_defrag_cycle_max = Integer(25, 1, 99)
    active_defrag_threshold_lower = Integer(10, 0, 1000)
    active_defrag_threshold_upper = Integer(100, 0, 1000)
    active_defrag_ignore_bytes = Memory(100 * MB, 1, LONG_MAX)
    active_defrag_max_scan_fields = Integer(1000, 1, LONG_MAX)
    activerehashing = Flag(True)
    jemalloc_bg_thread = Flag(True)
    disable_thp = Flag(True, live=False)
    key_memory_histograms = Flag(False)
    oom_score_adj = Choice("no", ("no", "yes", "relative", "absolute"))
    oom_score_adj_values = Numbers(
        ("0", "200", "800"),
        -2000,
        2000,
        exactly=3,
        error="Invalid oom-score-adj-values, elements must be between -2000 and 2000.",
    )


class Background(Section):
    """Threads, processes and background work."""

    title = "Threads and background work"
    ignored = (
        "one thread runs all commands, and deleting and expiring are always done in the background"
    )

    io_threads = Integer(1, 1, 128, live=False)
    io_threads_do_reads = Flag(False, live=False)
    lookahead = Integer(16, 1, INT_MAX)
    server_cpulist = Text("", live=False, aliases=("server_cpulist",))
    bio_cpulist = Text("", live=False, aliases=("bio_cpulist",))
    aof_rewrite_cpulist = Text("", live=False, aliases=("aof_rewrite_cpulist",))
    bgsave_cpulist = Text("", live=False, aliases=("bgsave_cpulist",))
    dynamic_hz = Flag(True)
    active_expire_effort = Integer(1, 1, 10)
    lazyfree_lazy_eviction = Flag(False)
    lazyfree_lazy_expire = Flag(False)
    lazyfree_lazy_server_del = Flag(False)
    lazyfree_lazy_user_del = Flag(False)
    lazyfree_lazy_user_flush = Flag(False)
    max_new_connections_per_cycle = Integer(10, 1, 1000)
    max_new_tls_connections_per_cycle = Integer(1, 1, 1000)
    vset_force_single_threaded_execution = Flag(False)


class Replication(Section):
    """Replication."""

    title = "Replication"
    ignored = "this server is not a replica and has none: it stands alone and takes writes"

    replicaof = Words((), live=False, aliases=("slaveof",))
    masterauth = Secret(b"")
    masteruser = Text("")
    replica_serve_stale_data = Flag(True, aliases=("slave-serve-stale-data",))
    replica_read_only = Flag(True, aliases=("slave-read-only",))
    replica_priority = Integer(100, 0, INT_MAX, aliases=("slave-priority",))
    replica_announced = Flag(True)
    replica_announce_ip = Text("", aliases=("slave-announce-ip",))
    replica_announce_port = Integer(0, 0, 65535, aliases=("slave-announce-port",))
    replica_ignore_maxmemory = Flag(True, aliases=("slave-ignore-maxmemory",))
    replica_ignore_disk_write_errors = Flag(False)
    replica_lazy_flush = Flag(False, aliases=("slave-lazy-flush",))
    replica_full_sync_buffer_limit = Memory(0, 0, LONG_MAX)
    repl_backlog_size = Memory(MB, 1, LONG_MAX)
    repl_backlog_ttl = Integer(3600, 0, LONG_MAX)
    repl_timeout = Integer(60, 1, INT_MAX)
    repl_ping_replica_period = Integer(10, 1, INT_MAX, aliases=("repl-ping-slave-period",))
    repl_disable_tcp_nodelay = Flag(False)
    repl_diskless_sync = Flag(True)
    repl_diskless_sync_delay = Integer(5, 0, INT_MAX)
    repl_diskless_sync_max_replicas = Integer(0, 0, INT_MAX)
    repl_diskless_load = Choice(
        "disabled", ("disabled", "on-empty-db", "swapdb", "flush-before-load")
    )
    min_replicas_to_write = Integer(0, 0, INT_MAX, aliases=("min-slaves-to-write",))
    min_replicas_max_lag = Integer(10, 0, INT_MAX, aliases=("min-slaves-max-lag",))
    propagation_error_behavior = Choice("ignore", ("ignore", "panic", "panic-on-replicas"))


class Cluster(Section):
    """Cluster."""

    title = "Cluster"
    ignored = "there is no cluster bus: this server owns every slot"

    cluster_enabled = Flag(False, live=False)
    cluster_config_file = Text("nodes.conf", live=False)
    cluster_port = Integer(0, 0, 65535, live=False)
    cluster_node_timeout = Integer(15000, 0, LONG_MAX)
    cluster_ping_interval = Integer(1000, 1, LONG_MAX)
    cluster_migration_barrier = Integer(1, 0, INT_MAX)
    cluster_replica_validity_factor = Integer(
        10, 0, INT_MAX, aliases=("cluster-slave-validity-factor",)
    )
    cluster_replica_no_failover = Flag(False, aliases=("cluster-slave-no-failover",))
    cluster_require_full_coverage = Flag(True)
    cluster_allow_reads_when_down = Flag(False)
    cluster_allow_pubsubshard_when_down = Flag(True)
    cluster_allow_replica_migration = Flag(True)
    cluster_announce_ip = Text("")
    cluster_announce_hostname = Text("")
    cluster_announce_human_nodename = Text("")
    cluster_announce_port = Integer(0, 0, 65535)
    cluster_announce_tls_port = Integer(0, 0, 65535)
    cluster_announce_bus_port = Integer(0, 0, 65535)
    cluster_link_sendbuf_limit = Memory(0, 0, LONG_MAX)
    cluster_preferred_endpoint_type = Choice("ip", ("ip", "hostname", "unknown-endpoint"))
    cluster_compatibility_sample_ratio = Integer(0, 0, 100)
    cluster_slot_stats_enabled = Flag(False)
    cluster_slot_migration_handoff_max_lag_bytes = Memory(MB, 0, LONG_MAX)
    cluster_slot_migration_write_pause_timeout = Integer(10000, 0, LONG_MAX)


class Tls(Section):
    """TLS."""

    title = "TLS"
    ignored = "the server speaks no TLS; put a TLS proxy such as stunnel before it"

    tls_port = Integer(0, 0, 65535)
    tls_cert_file = Text("")
    tls_key_file = Text("")
    tls_key_file_pass = Secret(b"")
    tls_client_cert_file = Text("")
    tls_client_key_file = Text("")
    tls_client_key_file_pass = Secret(b"")
    tls_dh_params_file = Text("")
    tls_ca_cert_file = Text("")
    tls_ca_cert_dir = Text("")
    tls_auth_clients = Choice("yes", ("no", "yes", "optional"))
    tls_auth_clients_user = Choice("off", ("off", "cn"))
    tls_replication = Flag(False)
    tls_cluster = Flag(False)
    tls_protocols = Text("")
    tls_ciphers = Text("")
    tls_ciphersuites = Text("")
    tls_prefer_server_ciphers = Flag(False)
    tls_session_caching = Flag(True)
    tls_session_cache_size = Integer(20480, 0, INT_MAX)
    tls_session_cache_timeout = Integer(300, 0, INT_MAX)


class ModuleCommands(Section):
    """Loading modules while the server runs."""

    title = "Loading modules while the server runs"
    ignored = "modules are loaded at start, by loadmodule lines"

    enable_module_command = Choice("no", ("no", "yes", "local"), live=False)


class Scripts(Section):
    """Scripts."""

    title = "Scripts"
    ignored = "no module for scripts is loaded"

    lua_time_limit = Integer(5000, 0, LONG_MAX, aliases=("busy-reply-threshold",))


class Surroundings(Section):
    """The process as others see it."""

    title = "The process as others see it"
    ignored = (
        "the server runs as an ordinary Python process and logs to standard error or to logfile"
    )

    supervised = Choice("no", ("upstart", "systemd", "auto", "no"), live=False)
    syslog_enabled = Flag(False, live=False)
    syslog_ident = Text("redis", live=False)
    syslog_facility = Choice(
        "local0",
        (
            "user",
            "local0",
            "local1",
            "local2",
            "local3",
            "local4",
            "local5",
            "local6",
            "local7",
        ),
        live=False,
    )
    always_show_logo = Flag(False, live=False)
    set_proc_title = Flag(True, live=False)
    proc_title_template = Text("{title} {listen-addr} {server-mode}")
    crash_log_enabled = Flag(True)
    crash_memcheck_enabled = Flag(True)
    hide_user_data_from_log = Flag(False)
    ignore_warnings = Text("")
    locale_collate = Text("")
    bind_source_addr = Text("")
    socket_mark_id = Integer(0, 0, 2**32 - 1, live=False)
    enable_protected_configs = Choice("no", ("no", "yes", "local"), live=False)


class Options(
    Network,
    Clients,
    Durability,
    MemoryUse,
    Idempotency,
    Vectors,
    Security,
    Modules,
    Process,
    Encodings,
    Snapshots,
    Eviction,
    Background,
    Replication,
    Cluster,
    Tls,
    ModuleCommands,
    Scripts,
    Surroundings,
):
    """Every option as a typed attribute."""


SECTIONS: tuple[type[Section], ...] = Options.__bases__


def rows(section: type[Section]) -> list[Option[Any]]:
    """The options of a section, in the order of the table."""
    return [row for row in vars(section).values() if isinstance(row, Option)]


TABLE: tuple[Option[Any], ...] = tuple(row for section in SECTIONS for row in rows(section))

# By lower-case name, aliases included.
BY_NAME: dict[bytes, Option[Any]] = {name.encode(): row for row in TABLE for name in row.names}

# Options of older Redis versions that still stand in files, and what they take the place of.
OBSOLETE: dict[bytes, str] = {
    b"list-max-ziplist-entries": "list-max-listpack-size is its successor",
    b"list-max-ziplist-value": "list-max-listpack-size is its successor",
    b"lua-replicate-commands": "Redis dropped it as well",
}

# Options that would leave a door open if they were accepted without effect.
REFUSED: dict[bytes, str] = {
    b"rename-command": "rename-command is not supported; take commands away with ACL rules",
}


if __name__ == "__main__":
    from norikv_resp import option_docs

    sys.exit(option_docs.main(sys.argv[1:]))
