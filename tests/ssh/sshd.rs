//! A private SSH server on loopback, and users for it. Needs root, `openssh-server` and `sudo`.

use std::fs;
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use terraform_provider_etcd::host::{Credential, HostKeyPolicy, Secret, Target};

/// A running server. Ends with its value.
pub struct Sshd {
    child: Child,
    pub folder: tempfile::TempDir,
    pub port: u16,
}

fn succeed(command: &mut Command) -> String {
    let output = command.output().unwrap_or_else(|error| {
        panic!("{command:?}: {error} (openssh-server, openssh-client and sudo must be installed)")
    });
    assert!(
        output.status.success(),
        "{command:?}: {}",
        String::from_utf8_lossy(&output.stderr)
    );
    String::from_utf8_lossy(&output.stdout).into_owned()
}

pub fn make_key(path: &Path, kind: &str, passphrase: &str) {
    succeed(
        Command::new("ssh-keygen")
            .args(["-q", "-t", kind, "-N", passphrase, "-C", "test", "-f"])
            .arg(path),
    );
}

pub fn free_port() -> u16 {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a free port");
    listener.local_addr().expect("bound").port()
}

impl Sshd {
    /// Starts a server with two host keys, one user key, and further lines of configuration, which come first and so win.
    pub fn start(configuration: &str) -> Self {
        Self::on_port(free_port(), configuration)
    }

    pub fn on_port(port: u16, configuration: &str) -> Self {
        assert!(
            rustix::process::getuid().is_root(),
            "these tests start an SSH server and need root"
        );
        let folder = tempfile::tempdir().expect("a folder");
        let at = |name: &str| folder.path().join(name);
        let kinds = ["ed25519", "ecdsa", "rsa"];
        // One of RSA takes a while to make.
        for kind in kinds
            .into_iter()
            .filter(|kind| *kind != "rsa" || configuration.contains("rsa"))
        {
            make_key(&at(&format!("host_{kind}")), kind, "");
        }
        make_key(&at("user"), "ed25519", "");
        fs::copy(at("user.pub"), at("authorized_keys")).expect("copied");
        let text = format!(
            "{configuration}\nPort {port}\nListenAddress 127.0.0.1\nHostKey {0}/host_ed25519\nHostKey {0}/host_ecdsa\nAuthorizedKeysFile {0}/authorized_keys\n\
             PidFile none\nStrictModes no\nUsePAM no\nPermitRootLogin yes\nLogLevel ERROR\nMaxStartups 100\n",
            folder.path().display()
        );
        fs::write(
            at("config"),
            text.replace("FOLDER", &folder.path().display().to_string()),
        )
        .expect("written");
        fs::create_dir_all("/run/sshd").expect("sshd's folder");
        let child = Command::new("/usr/sbin/sshd")
            .args(["-D", "-e", "-f"])
            .arg(at("config"))
            .stdin(Stdio::null())
            .stderr(fs::File::create(at("log")).expect("written"))
            .spawn();
        let server = Self {
            child: child.expect("/usr/sbin/sshd (openssh-server must be installed)"),
            folder,
            port,
        };
        let deadline = Instant::now() + Duration::from_secs(10);
        while TcpStream::connect((Ipv4Addr::LOCALHOST, port)).is_err() {
            assert!(Instant::now() < deadline, "sshd doesn't listen");
            std::thread::sleep(Duration::from_millis(10));
        }
        server
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    pub fn read(&self, name: &str) -> String {
        fs::read_to_string(self.path(name)).expect("readable")
    }

    /// Whether a line of its log has all of these words.
    pub fn has_logged(&self, words: &[&str]) -> bool {
        self.read("log")
            .lines()
            .any(|line| words.iter().all(|word| line.contains(word)))
    }

    /// A known_hosts file with these lines; `HOST` is this server's place, `KEY` its host key.
    pub fn known_hosts(&self, lines: &str) -> PathBuf {
        let path = self.path("known_hosts");
        let text = lines
            .replace("HOST", &format!("[127.0.0.1]:{}", self.port))
            .replace("KEY", &self.host_key_line("ed25519"));
        fs::write(&path, text + "\n").expect("written");
        path
    }

    /// `ssh-ed25519 AAAA…`.
    pub fn host_key_line(&self, kind: &str) -> String {
        self.read(&format!("host_{kind}.pub"))
            .split_ascii_whitespace()
            .take(2)
            .collect::<Vec<_>>()
            .join(" ")
    }

    /// As OpenSSH prints it.
    pub fn fingerprint(&self, kind: &str) -> String {
        let printed = succeed(
            Command::new("ssh-keygen")
                .arg("-lf")
                .arg(self.path(&format!("host_{kind}.pub"))),
        );
        printed
            .split_ascii_whitespace()
            .nth(1)
            .expect("a fingerprint")
            .to_owned()
    }

    pub fn user_key(&self) -> Credential {
        Credential::PrivateKey {
            key: Secret::new(self.read("user")),
            passphrase: None,
        }
    }

    pub fn pinned(&self) -> HostKeyPolicy {
        HostKeyPolicy::Strict {
            known_hosts: Vec::new(),
            pinned: Some(self.host_key_line("ed25519")),
        }
    }

    /// Root, with the right key and the right host key.
    pub fn target(&self) -> Target {
        let mut target = Target::new("127.0.0.1", "root", self.pinned());
        target.port = self.port;
        target.credentials = vec![self.user_key()];
        target
    }

    /// Ends every connection's process, as a network that is cut does (the master keeps listening).
    pub fn cut_connections(&self) {
        self.signal_connections("-9");
    }

    /// Makes every connection's process silent, as a machine that froze is.
    pub fn stop_connections(&self) {
        self.signal_connections("-STOP");
    }

    /// The processes of the connections that there are.
    pub fn connections(&self) -> Vec<String> {
        let children = fs::read_to_string(format!("/proc/{0}/task/{0}/children", self.child.id())).unwrap_or_default();
        children.split_ascii_whitespace().map(str::to_owned).collect()
    }

    fn signal_connections(&self, signal: &str) {
        for child in self.connections() {
            // It may have ended by itself.
            let _ = Command::new("kill").args([signal, &child]).output();
        }
    }
}

impl Drop for Sshd {
    fn drop(&mut self) {
        self.cut_connections();
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A user of this machine with a password, removed with its value.
pub struct User {
    pub name: String,
    sudoers: PathBuf,
}

pub const PASSWORD: &str = "correct 'horse' $battery";

impl User {
    /// `sudoers` follows the name in the sudoers file; nothing: no rights.
    pub fn create(name: &str, sudoers: &str) -> Self {
        let name = format!("etcdtest{name}{}", std::process::id());
        let _ = Command::new("userdel").args(["-f", &name]).output();
        succeed(Command::new("useradd").args(["-M", "-d", "/", "-s", "/bin/sh", &name]));
        let chpasswd = Command::new("chpasswd")
            .stdin(Stdio::piped())
            .spawn()
            .and_then(|mut child| {
                use std::io::Write as _;
                child
                    .stdin
                    .take()
                    .expect("piped")
                    .write_all(format!("{name}:{PASSWORD}\n").as_bytes())?;
                child.wait()
            });
        assert!(chpasswd.expect("chpasswd runs").success());
        let file = PathBuf::from(format!("/etc/sudoers.d/{name}"));
        if !sudoers.is_empty() {
            fs::write(&file, sudoers.replace("USER", &name)).expect("written");
        }
        Self { name, sudoers: file }
    }
}

impl Drop for User {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.sudoers);
        let _ = Command::new("userdel").args(["-f", &self.name]).output();
    }
}

/// Adds a key that needs a passphrase to those that may log in.
pub fn add_key_with_passphrase(server: &Sshd, name: &str, kind: &str, passphrase: &str) -> String {
    make_key(&server.path(name), kind, passphrase);
    let mut keys = server.read("authorized_keys");
    keys.push_str(&server.read(&format!("{name}.pub")));
    fs::write(server.path("authorized_keys"), keys).expect("written");
    server.read(name)
}

/// A running ssh-agent with keys. Ends with its value.
pub struct Agent {
    child: Child,
    pub socket: PathBuf,
}

impl Agent {
    /// With these private keys, in this order.
    pub fn start(folder: &Path, keys: &[PathBuf]) -> Self {
        let socket = folder.join("agent");
        let child = Command::new("ssh-agent")
            .args(["-D", "-a"])
            .arg(&socket)
            .stdout(Stdio::null())
            .spawn();
        let agent = Self {
            child: child.expect("ssh-agent (openssh-client must be installed)"),
            socket,
        };
        let deadline = Instant::now() + Duration::from_secs(10);
        while !agent.socket.exists() {
            assert!(Instant::now() < deadline, "ssh-agent doesn't listen");
            std::thread::sleep(Duration::from_millis(10));
        }
        for key in keys {
            succeed(
                Command::new("ssh-add")
                    .arg("-q")
                    .arg(key)
                    .env("SSH_AUTH_SOCK", &agent.socket),
            );
        }
        agent
    }
}

impl Drop for Agent {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A known_hosts file whose names are hashed by `ssh-keygen -H`.
pub fn hashed_known_hosts(server: &Sshd, kind: &str) -> PathBuf {
    let path = server.path("known_hosts");
    fs::write(
        &path,
        format!("[127.0.0.1]:{} {}\n", server.port, server.host_key_line(kind)),
    )
    .expect("written");
    succeed(Command::new("ssh-keygen").args(["-q", "-H", "-f"]).arg(&path));
    assert!(server.read("known_hosts").starts_with("|1|"));
    path
}
