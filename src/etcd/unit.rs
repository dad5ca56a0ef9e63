//! The member's service unit, and the guard that decides how the member may start.
//!
//! A start is a decision: a member whose data directory holds a write-ahead log goes on with it, whatever else is there.
//! Without one it may start only with a permit, and only once: the guard removes the permit durably before etcd is
//! executed. A founded member whose data directory is gone would otherwise found a second cluster, or vote twice.
//!
//! The guard runs twice at each start: as root, to decide and to remove permits (`prepare`), and as the member's main
//! process, which becomes etcd (`run`). So a refusal is the main process's own exit status, 78, and systemd can be told
//! not to restart on that one (it looks at nobody else's). As root it also sees to the cluster's names in `/etc/hosts`:
//! see [`super::names`].

use super::layout::{Layout, ServerPath};
use super::release::Arch;
use super::version::{Minor, Version};
use crate::host::PRIVILEGE;
use crate::topology::hosts_block;

/// The exit status of a refused start (`EX_CONFIG`).
pub const REFUSED_STATUS: u8 = 78;

/// What services of this provider's are kept from, in their units. What differs from service to service stands between this and
/// [`KEPT_FROM_TOO`].
pub(super) const KEPT_FROM: &str = "\
LockPersonality=yes
MemoryDenyWriteExecute=yes
NoNewPrivileges=yes
PrivateDevices=yes
PrivateTmp=yes
ProtectClock=yes
ProtectControlGroups=yes
ProtectHome=yes
ProtectHostname=yes
ProtectKernelLogs=yes
ProtectKernelModules=yes
ProtectKernelTunables=yes
ProtectProc=invisible
ProtectSystem=strict";
/// See [`KEPT_FROM`].
pub(super) const KEPT_FROM_TOO: &str = "\
RestrictNamespaces=yes
RestrictRealtime=yes
RestrictSUIDSGID=yes
SystemCallArchitectures=native
SystemCallErrorNumber=EPERM
SystemCallFilter=@system-service
SystemCallFilter=~memfd_create
UMask=0077";

/// Where programs that are not static have their loader and libraries.
pub(super) const LIBRARIES: &str =
    "-/lib -/lib32 -/lib64 -/libx32 -/usr/lib -/usr/lib32 -/usr/lib64 -/usr/libx32 -/usr/local/lib";

/// Folders that a service can write to, each a mount of its own, which `NoExecPaths=/` alone would leave out (seen with systemd 252).
pub(super) const WRITABLE: &str = "-/tmp -/var/tmp -/dev -/dev/shm -/run";

/// What goes into a service unit beside the layout.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UnitSpec {
    /// The etcd binary.
    pub binary: ServerPath,
    /// Its version.
    pub version: Version,
    /// The server's processor.
    pub arch: Arch,
    /// The lowest port that the member listens on; below 1024 it needs a capability for that.
    pub lowest_port: u16,
}

/// The text of the service unit.
#[must_use]
pub fn render(layout: &Layout, spec: &UnitSpec) -> String {
    let cluster = layout.cluster();
    let user = layout.user();
    let (guard, data, run, binary) = (layout.guard_file(), layout.data_dir(), layout.run_dir(), &spec.binary);
    let capabilities = if spec.lowest_port < 1024 {
        "CAP_NET_BIND_SERVICE"
    } else {
        ""
    };
    // 3.4 doesn't start elsewhere without being told that this is meant.
    let environment = if spec.version.minor() == Minor::V3_4 && spec.arch != Arch::Amd64 {
        format!("Environment=ETCD_UNSUPPORTED_ARCH={}\n", spec.arch)
    } else {
        String::new()
    };
    format!(
        "\
# Managed by Terraform (terraform-provider-etcd). Changes made here are overwritten.
[Unit]
Description=etcd member of the cluster {cluster}
Documentation=https://etcd.io/docs/
Wants=network-online.target
After=network-online.target time-sync.target
RequiresMountsFor={data}
StartLimitIntervalSec=0

[Service]
# Not notify: a member that waits for its peers isn't ready, and the boot of the whole server would wait with it.
Type=exec
User={user}
Group={user}
ExecStartPre=+/bin/sh {guard} prepare
ExecStart=/bin/sh {guard} run {binary}
RuntimeDirectory=etcd-{cluster}
RuntimeDirectoryMode=0750
Restart=on-failure
RestartSec=2
RestartPreventExitStatus={REFUSED_STATUS}
TimeoutStopSec=30
LimitNOFILE=65536
# Peers are dialled directly: a proxy would make every view the proxy's.
UnsetEnvironment=HTTP_PROXY HTTPS_PROXY ALL_PROXY NO_PROXY http_proxy https_proxy all_proxy no_proxy
{environment}
AmbientCapabilities={capabilities}
CapabilityBoundingSet={capabilities}
{KEPT_FROM}
ReadWritePaths=-{data}
# The shell becomes etcd, which may need libraries: nothing else is run here, and above all nothing that etcd wrote itself.
NoExecPaths=/ -{data} -{run} {WRITABLE}
ExecPaths=/bin/sh {binary} {LIBRARIES}
RemoveIPC=yes
RestrictAddressFamilies=AF_INET AF_INET6 AF_UNIX AF_NETLINK
{KEPT_FROM_TOO}

[Install]
WantedBy=multi-user.target
"
    )
}

/// The text of the guard script. `prepare` (as root) decides and leaves a link to the configuration to use in the
/// runtime folder; `run BINARY` becomes etcd, or refuses with [`REFUSED_STATUS`].
#[must_use]
pub fn guard(layout: &Layout) -> String {
    format!(
        "#!/bin/sh
# Managed by Terraform (terraform-provider-etcd). Changes made here are overwritten.
cluster={}
etc={}
run={}
data={}
user={}
refused={REFUSED_STATUS}
hosts_file=/etc/hosts
rest=5
{PRIVILEGE}{}{}",
        layout.cluster(),
        layout.etc_dir(),
        layout.run_dir(),
        layout.data_dir(),
        layout.user(),
        hosts_block::script(),
        include_str!("unit/guard.sh")
    )
}

#[cfg(test)]
#[path = "unit/tests.rs"]
mod tests;
