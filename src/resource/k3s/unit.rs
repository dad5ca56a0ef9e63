//! The files that the translation and k3s need on a server.

use crate::host::FileSpec;
use crate::resource::k3s::directory;
use crate::topology::{ClusterName, ServerName, Translation};

/// A file of root's.
pub fn file(path: impl Into<String>, mode: u32, contents: impl Into<Vec<u8>>) -> FileSpec {
    FileSpec {
        path: path.into(),
        mode,
        owner: "0:0".to_owned(),
        contents: contents.into().into(),
    }
}

/// The name of the unit that puts the translation into place, without its ending.
pub fn name(cluster: &str) -> String {
    format!("etcd-k3s-{cluster}")
}

fn of_cluster(text: &str, cluster: &ClusterName, table: &str) -> String {
    text.replace("@CLUSTER@", cluster.as_str()).replace("@TABLE@", table)
}

/// What starts k3s.
pub fn guard(cluster: &str) -> String {
    include_str!("guard.sh").replace("@CLUSTER@", cluster)
}

/// The translation of one server: rules, address, and the units that put them into place at boot and when somebody took them away.
pub fn translation(cluster: &ClusterName, server: &ServerName, all: &Translation, service: &str) -> Vec<FileSpec> {
    let etc = directory(cluster.as_str());
    let unit = name(cluster.as_str());
    let address = all
        .own_address(server)
        .map_or_else(String::new, |address| format!("{address}\n"));
    let units = "/etc/systemd/system";
    let head = format!("# Managed by Terraform.\n[Unit]\nDescription=Addresses of the etcd of k3s cluster {cluster}\n");
    let service = format!(
        "{head}After=network-pre.target nftables.service firewalld.service\nBefore={service}\n\n\
         [Service]\nType=oneshot\nRemainAfterExit=yes\n\
         ExecStart=/bin/sh {etc}/translation up\nExecReload=/bin/sh {etc}/translation up\n\n\
         [Install]\nWantedBy=multi-user.target\n"
    );
    // Its own words of starting and ending, every few seconds, would fill the journal.
    let check = format!(
        "{head}\n[Service]\nType=oneshot\nExecStart=/bin/sh {etc}/translation check\nLogLevelMax=notice\nSyslogLevel=notice\n"
    );
    let timer = format!(
        "{head}\n[Timer]\nOnActiveSec=5s\nOnUnitInactiveSec=5s\nAccuracySec=1s\n\n[Install]\nWantedBy=timers.target\n"
    );
    vec![
        file(format!("{etc}/rules.nft"), 0o644, all.nft(server)),
        file(format!("{etc}/address"), 0o644, address),
        file(
            format!("{etc}/translation"),
            0o755,
            of_cluster(include_str!("translation.sh"), cluster, &all.table()),
        ),
        file(format!("{units}/{unit}.service"), 0o644, service),
        file(format!("{units}/{unit}-check.service"), 0o644, check),
        file(format!("{units}/{unit}-check.timer"), 0o644, timer),
    ]
}

/// The unit of k3s itself.
pub fn k3s(cluster: &str, translated: bool) -> String {
    let etc = directory(cluster);
    let after = if translated {
        format!(" {}.service", name(cluster))
    } else {
        String::new()
    };
    format!(
        "# Managed by Terraform.\n[Unit]\nDescription=k3s server of cluster {cluster}\nDocumentation=https://docs.k3s.io\n\
         After=network-online.target{after}\nWants=network-online.target{after}\n\n\
         [Service]\nType=notify\nNotifyAccess=main\nExecStart=/bin/sh {etc}/guard\nKillMode=process\nDelegate=yes\n\
         LimitNOFILE=1048576\nLimitNPROC=infinity\nLimitCORE=infinity\nTasksMax=infinity\nTimeoutStartSec=0\n\
         Restart=always\nRestartSec=5s\nRestartPreventExitStatus=78\n\n[Install]\nWantedBy=multi-user.target\n"
    )
}
