//! What can be done to a lab that is up.

use std::fs::File;
use std::net::Ipv4Addr;
use std::os::fd::AsFd;
use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context, Result, bail};
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

use crate::cgroup::Cgroup;
use crate::command::{in_namespace, namespace_path, run};
use crate::image::private_key_file;
use crate::network::namespace;
use crate::spec::{Init, Ipv6, Public};
use crate::wan::{CONTROLLER, CONTROLLER_ADDRESS, Delay, LinkStates};
use crate::{Builder, Lab, Output};

/// Distance and faults of the network. An end of a link is a site's name or [`CONTROLLER`].
impl Lab {
    /// Sets what the link between two ends does, in both directions.
    ///
    /// # Errors
    /// When there is no such end, or the process that holds the packets is gone. The same for all that follow here.
    pub fn wan(&self, a: &str, b: &str, delay: Delay) -> Result<()> {
        self.link(a, b, |links| {
            links.set(a, b, delay);
            links.set(b, a, delay);
        })
    }

    /// Sets what the link does in one direction.
    pub fn wan_one_way(&self, from: &str, to: &str, delay: Delay) -> Result<()> {
        self.link(from, to, |links| links.set(from, to, delay))
    }

    /// Sets the same between all ends.
    pub fn wan_everywhere(&self, delay: Delay) -> Result<()> {
        let ends: Vec<&str> = self
            .spec
            .sites
            .iter()
            .map(|site| site.name.as_str())
            .chain([CONTROLLER])
            .collect();
        self.change_links(|links| {
            for from in &ends {
                for to in ends.iter().filter(|to| *to != from) {
                    links.set(from, to, delay);
                }
            }
        })
    }

    /// Lets nothing through any more, in either direction.
    pub fn cut(&self, a: &str, b: &str) -> Result<()> {
        self.link(a, b, |links| {
            links.cut(a, b);
            links.cut(b, a);
        })
    }

    /// Lets nothing through in one direction.
    pub fn cut_one_way(&self, from: &str, to: &str) -> Result<()> {
        self.link(from, to, |links| links.cut(from, to))
    }

    /// Makes the link what it was before the cut.
    pub fn heal(&self, a: &str, b: &str) -> Result<()> {
        self.link(a, b, |links| {
            links.heal(a, b);
            links.heal(b, a);
        })
    }

    /// The links that are not at zero, a line each.
    pub fn links(&self) -> Result<String> {
        LinkStates::load(&self.folder).map(|links| links.describe())
    }

    fn link(&self, a: &str, b: &str, change: impl FnOnce(&mut LinkStates)) -> Result<()> {
        for end in [a, b].into_iter().filter(|end| *end != CONTROLLER) {
            self.spec.site_named(end)?;
        }
        self.change_links(change)
    }

    /// Makes the host go out by `address` (of the made-up internet) instead of the one it is reached at; none undoes it.
    pub fn egress(&mut self, host: &str, address: Option<Ipv4Addr>) -> Result<()> {
        self.change_host(host, |spec| spec.egress = address)
    }

    /// Gives the host another public address of its own. Connections by the old one fall silent.
    pub fn set_public(&mut self, host: &str, address: Ipv4Addr) -> Result<()> {
        self.change_host(host, |spec| spec.public = Public::OneToOne(address))
    }

    /// Gives the host another address inside its site, in place of the one that it had.
    pub fn set_private(&mut self, host: &str, address: Ipv4Addr) -> Result<()> {
        let before = self.spec.host_named(host)?.clone();
        self.spec.set_private(&before, address)?;
        self.change_host(host, |spec| spec.private = address)
    }

    fn change_host(&mut self, host: &str, change: impl FnOnce(&mut crate::HostSpec)) -> Result<()> {
        let site = self.spec.host_named(host)?.site.clone();
        if let Some(spec) = self.spec.hosts.iter_mut().find(|spec| spec.name == host) {
            change(spec);
        }
        self.write_spec()?;
        self.spec.apply_addresses(self.spec.site_named(&site)?)?;
        self.change_links(|_| ())
    }

    /// Closes a TCP port of `to` for `from`, as a firewall at the site of `to` does: one direction of one pair, of two sites.
    /// What has been connected falls silent; answers to what `to` dials get through.
    pub fn close_port(&self, from: &str, to: &str, port: u16) -> Result<()> {
        let (from, to) = (self.spec.host_named(from)?, self.spec.host_named(to)?);
        self.spec.close_port(from, to, port)
    }

    /// Makes a site's NAT forget its connections, as one does that was restarted, or that saw no packet of them for too long. Both ends
    /// go on believing in them. Once for each lab: connections that were made after the first time are not forgotten.
    pub fn forget_connections(&self, site: &str) -> Result<()> {
        self.spec.forget_connections(self.spec.site_named(site)?)
    }

    /// Drops what `from` sends to `to` in packets of more than so many bytes, without a word to the sender: a tunnel on the way with
    /// a smaller MTU, and a firewall that lets no ICMP through.
    pub fn drop_larger(&self, from: &str, to: &str, bytes: u16) -> Result<()> {
        let (from, to) = (self.spec.host_named(from)?, self.spec.host_named(to)?);
        self.spec.drop_larger(from, to, bytes)
    }

    /// Opens all ports again that were closed at the site of this host.
    pub fn open_ports(&self, host: &str) -> Result<()> {
        self.spec.open_ports(self.spec.host_named(host)?)
    }

    /// Pulls the host's network cable, or puts it in again.
    pub fn plug(&self, host: &str, plugged: bool) -> Result<()> {
        self.spec.set_cable(self.spec.host_named(host)?, plugged)
    }
}

/// Power.
impl Lab {
    /// Cuts the host's power. The cable goes first: the peers must see silence, not the connections being closed.
    ///
    /// # Errors
    /// When there is no such host, or it doesn't die or come up. The same for all that follow here.
    pub fn power_off(&self, host: &str) -> Result<()> {
        self.plug(host, false)?;
        self.machine(host)?.cgroup.kill()
    }

    /// Starts the host with the disk that it had and waits until it is up.
    pub fn power_on(&self, host: &str) -> Result<()> {
        self.plug(host, true)?;
        let machine = self.machine(host)?;
        machine.start(&self.root)?;
        machine.wait_until_up(None)
    }

    /// Puts another machine in the place of one that is off: an empty disk, and another host key. [`Lab::known_hosts_file`] does not
    /// have it before [`Lab::trust`].
    pub fn replace_machine(&self, host: &str) -> Result<()> {
        let machine = self.machine(host)?;
        if machine.is_on() {
            bail!("{host} is on");
        }
        for folder in ["upper", "work", "root"] {
            let folder = machine.folder.join(folder);
            std::fs::remove_dir_all(&folder).with_context(|| format!("removing {}", folder.display()))?;
        }
        machine.prepare()
    }

    /// Cuts the power and starts the host again.
    pub fn reset(&self, host: &str) -> Result<()> {
        self.power_off(host)?;
        self.power_on(host)
    }

    /// Asks systemd for a reboot, and waits until the host is up again.
    pub fn reboot(&self, host: &str) -> Result<()> {
        let machine = self.machine(host)?;
        if machine.spec.init != Init::Systemd {
            bail!("{host} has no systemd that could reboot it");
        }
        let before = machine.leader();
        machine.exec("systemctl reboot", b"")?;
        machine.wait_until_up(before)
    }

    /// Stops all processes of the host where they are.
    pub fn freeze(&self, host: &str) -> Result<()> {
        self.machine(host)?.cgroup.set_frozen(true)
    }

    /// Lets them go on.
    pub fn thaw(&self, host: &str) -> Result<()> {
        self.machine(host)?.cgroup.set_frozen(false)
    }

    /// Whether any process of the host runs.
    pub fn is_on(&self, host: &str) -> Result<bool> {
        Ok(self.machine(host)?.is_on())
    }
}

/// Looking and acting inside, without sshd.
impl Lab {
    /// Runs a shell script on the host as root.
    ///
    /// # Errors
    /// When the host is off or unknown; a script that fails is no error. The same for all that follow here.
    pub fn exec(&self, host: &str, script: &str) -> Result<Output> {
        self.machine(host)?.exec(script, b"")
    }

    /// A command that runs `program` on the host as root, to be started by the caller.
    pub fn command_on(&self, host: &str, program: &str) -> Result<Command> {
        let mut command = self.machine(host)?.command()?;
        command.arg(program);
        Ok(command)
    }

    /// The file's text.
    pub fn read_file(&self, host: &str, path: &str) -> Result<String> {
        let mut command = self.command_on(host, "cat")?;
        run(command.args(["--", path]), b"")?
            .ok()
            .with_context(|| format!("reading {path} on {host}"))
    }

    /// Writes the file, readable by all; its folder is made too.
    pub fn write_file(&self, host: &str, path: &str, text: &[u8]) -> Result<()> {
        let mut command = self.command_on(host, "sh")?;
        let script = "mkdir -p -- \"$(dirname -- \"$0\")\" && cat >\"$0\"";
        run(command.args(["-c", script, path]), text)?
            .ok()
            .map(drop)
            .with_context(|| format!("writing {path} on {host}"))
    }

    /// Stops sshd; its open sessions stay.
    pub fn stop_sshd(&self, host: &str) -> Result<()> {
        self.exec(host, "systemctl stop ssh")?.ok().map(drop)
    }

    /// Starts sshd again.
    pub fn start_sshd(&self, host: &str) -> Result<()> {
        self.exec(host, "systemctl start ssh")?.ok().map(drop)
    }

    /// Ends every open SSH session on the host, and says how many processes that took. sshd itself goes on.
    pub fn cut_ssh(&self, host: &str) -> Result<usize> {
        let script = "for p in $(pgrep -f '^sshd: '); do tr '\\0' ' ' </proc/$p/cmdline | grep -q listener || { kill -KILL $p && echo $p; }; done";
        Ok(self.exec(host, script)?.stdout.lines().count())
    }

    /// Gives the host a new host key, as a machine that was installed anew has. `known_hosts` keeps the old one.
    pub fn change_host_key(&self, host: &str) -> Result<()> {
        let key = "/etc/ssh/ssh_host_ed25519_key";
        self.exec(
            host,
            &format!("rm -f {key} {key}.pub && ssh-keygen -q -t ed25519 -N '' -f {key} && systemctl restart ssh"),
        )?
        .ok()
        .map(drop)
    }
}

/// The way in from outside.
impl Lab {
    /// What the lab consists of.
    pub fn spec(&self) -> &Builder {
        &self.spec
    }

    /// What its namespaces and folders are told apart by.
    pub fn prefix(&self) -> &str {
        &self.spec.prefix
    }

    /// Puts the calling thread into the controller's network, for good. Threads and processes that it starts are there too.
    ///
    /// # Errors
    /// When the lab is down.
    pub fn enter_controller(&self) -> Result<()> {
        let path = namespace_path(&namespace(&self.spec.prefix, CONTROLLER));
        let handle = File::open(&path).with_context(|| format!("opening {}", path.display()))?;
        move_into_link_name_space(handle.as_fd(), Some(LinkNameSpaceType::Network))
            .context("entering the controller's network")
    }

    /// The names of the hosts.
    pub fn hosts(&self) -> Vec<&str> {
        self.spec.hosts.iter().map(|host| host.name.as_str()).collect()
    }

    /// A command that runs `program` of this machine in the controller's network.
    pub fn controller(&self, program: &str) -> Command {
        in_namespace(&namespace(&self.spec.prefix, CONTROLLER), program)
    }

    /// The controller's address on the made-up internet.
    pub fn controller_address(&self) -> Ipv4Addr {
        CONTROLLER_ADDRESS
    }

    /// The host's private address.
    ///
    /// # Errors
    /// When there is no such host. The same for all that follow here.
    pub fn private_address(&self, host: &str) -> Result<Ipv4Addr> {
        Ok(self.spec.host_named(host)?.private)
    }

    /// The public address that the host is reached at, if there is one.
    pub fn public_address(&self, host: &str) -> Result<Option<Ipv4Addr>> {
        Ok(self.spec.public_address(self.spec.host_named(host)?))
    }

    /// The host's IPv6 addresses, where the lab has them.
    pub fn ipv6(&self, host: &str) -> Result<Option<Ipv6>> {
        Ok(self.spec.ipv6(self.spec.host_named(host)?))
    }

    /// The public port that leads to the host's sshd.
    pub fn ssh_port(&self, host: &str) -> Result<u16> {
        self.public_port(host, 22)
    }

    /// The port at the host's public address that leads to its `port`.
    pub fn public_port(&self, host: &str, port: u16) -> Result<u16> {
        match &self.spec.host_named(host)?.public {
            Public::Forwarded(ports) => match ports.iter().find(|(_, private)| *private == port) {
                Some((public, _)) => Ok(*public),
                None => bail!("no port of {host}'s router leads to its port {port}"),
            },
            Public::None | Public::OneToOne(_) => Ok(port),
        }
    }

    /// A file in OpenSSH's format with every host's key as it was when the lab came up.
    pub fn known_hosts_file(&self) -> PathBuf {
        self.folder.join("known_hosts")
    }

    /// Adds the host's key as it is now to [`Lab::known_hosts_file`], for the address that it has now.
    pub fn trust(&self, host: &str) -> Result<()> {
        let path = self.known_hosts_file();
        let address = self
            .public_address(host)?
            .map_or(self.private_address(host)?, |public| public);
        let name = match self.ssh_port(host)? {
            22 => address.to_string(),
            port => format!("[{address}]:{port}"),
        };
        let known = std::fs::read_to_string(&path).context("reading known_hosts")?;
        let kept = known.lines().filter(|line| line.split(' ').next() != Some(&name));
        let kept: String = kept.map(|line| format!("{line}\n")).collect();
        std::fs::write(&path, format!("{kept}{name} {}\n", self.host_key(host)?)).context("writing known_hosts")
    }

    /// The host's public key, type and base64.
    pub fn host_key(&self, host: &str) -> Result<String> {
        self.machine(host)?.host_key()
    }

    /// An `ssh` command from the controller to the host by its public address; the caller adds what is to be run.
    pub fn ssh_command(&self, user: &str, host: &str) -> Result<Command> {
        let Some(address) = self.public_address(host)? else {
            bail!("{host} has no public address")
        };
        let mut command = self.controller("ssh");
        command
            .args([
                "-F",
                "none",
                "-o",
                "BatchMode=yes",
                "-o",
                "ConnectTimeout=5",
                "-o",
                "LogLevel=ERROR",
                "-i",
            ])
            .arg(private_key_file());
        command
            .arg("-o")
            .arg(format!("UserKnownHostsFile={}", self.known_hosts_file().display()));
        command.args(["-p", &self.ssh_port(host)?.to_string(), &format!("{user}@{address}")]);
        Ok(command)
    }

    /// Runs a shell script on the host over SSH.
    pub fn ssh(&self, user: &str, host: &str, script: &str) -> Result<Output> {
        run(self.ssh_command(user, host)?.arg(script), b"")
    }

    /// A line a host: on or off, and how it is reached.
    pub fn status(&self) -> Result<String> {
        let mut text = String::new();
        for host in &self.spec.hosts {
            let processes = Cgroup::of_lab(&self.spec.prefix)?.child(&host.name).processes().len();
            let state = if processes == 0 { "off" } else { "on" };
            let public = self
                .spec
                .public_address(host)
                .map_or_else(|| "no public address".into(), |address| address.to_string());
            text += &format!(
                "{:8} {:4} site {} {:15} {public:15} {processes} processes\n",
                host.name,
                state,
                host.site,
                host.private.to_string()
            );
        }
        Ok(text + &self.links()?)
    }
}
