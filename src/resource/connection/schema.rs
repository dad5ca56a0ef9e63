//! What a user may write about SSH: the attributes of the provider's `ssh`, and of a server's.

use crate::plugin::schema::Attribute;

/// The attributes of a server's `ssh`.
pub fn server_attributes() -> Vec<Attribute> {
    let mut attributes = override_attributes();
    attributes.push(Attribute::object("bastion", override_attributes()).describe(
        "The machine to jump over, in place of the provider's `ssh.bastion`. Its credentials are those of `ssh.bastion`.",
    ));
    attributes
}

fn override_attributes() -> Vec<Attribute> {
    vec![
        Attribute::string("host").describe("Name or IP address to connect to."),
        Attribute::number("port").describe("Port of its SSH server."),
        Attribute::string("user").describe("User to log in as."),
        Attribute::string("host_key")
            .describe("Its host key, as a line such as `ssh-ed25519 AAAA…`. Only this key is right then."),
    ]
}

/// The attributes of the provider's `ssh`.
pub fn provider_attributes() -> Vec<Attribute> {
    let mut attributes = credential_attributes();
    attributes.extend([
        Attribute::string("host_key_checking").describe(
            "`strict` (the default): a host key has to be in `known_hosts_file` or given as `ssh.host_key` of the server. \
             `accept_new`: the first key seen is believed and pinned in the server's state, and so is that of its bastion. \
             Environment: `ETCD_SSH_HOST_KEY_CHECKING`.",
        ),
        Attribute::string("connect_timeout")
            .describe("How long one attempt to connect may take, from `1s` to `1h`, such as `15s` (the default)."),
        Attribute::string("keep_alive").describe("How often a sign of life is sent, from `1s` to `1h`, such as `15s` (the default). A connection is given up after three without an answer."),
        Attribute::object("sudo", vec![
            Attribute::bool("enabled").describe("Whether to use sudo where the user is not root. Default: true."),
            Attribute::string("password").sensitive().describe(
                "The user's password, where sudo asks for one; sent over standard input. \
                 Environment: `ETCD_SSH_SUDO_PASSWORD`.",
            ),
        ])
        .describe("How the user becomes root."),
    ]);
    let mut bastion = credential_attributes();
    bastion.extend([
        Attribute::string("host")
            .required()
            .describe("Name or IP address of the bastion."),
        Attribute::string("host_key")
            .describe("Its host key, as a line such as `ssh-ed25519 AAAA…`. Only this key is right then."),
    ]);
    attributes.push(
        Attribute::object("bastion", bastion)
            .describe(
                "A machine to jump over. It never gets the password of `ssh`, and gets its key and agent only if it has no credentials of its own.",
            ),
    );
    attributes
}

fn credential_attributes() -> Vec<Attribute> {
    vec![
        Attribute::string("user").describe("User to log in as. Default: `root`. Environment: `ETCD_SSH_USER`."),
        Attribute::number("port").describe("Port of the SSH server. Default: 22. Environment: `ETCD_SSH_PORT`."),
        Attribute::string("private_key")
            .sensitive()
            .describe("A private key in PEM or OpenSSH form. Environment: `ETCD_SSH_PRIVATE_KEY`."),
        Attribute::string("private_key_file")
            .describe(
                "A file with a private key, or with a public key whose private one the agent has; `~` is your home. \
                 Environment: `ETCD_SSH_PRIVATE_KEY_FILE`.",
            ),
        Attribute::string("private_key_passphrase").sensitive().describe(
            "What the private key is encrypted with. Environment: `ETCD_SSH_PRIVATE_KEY_PASSPHRASE`.",
        ),
        Attribute::string("password")
            .sensitive()
            .describe("The user's password. Environment: `ETCD_SSH_PASSWORD`."),
        Attribute::bool("agent").describe(
            "Whether to ask the ssh-agent at `SSH_AUTH_SOCK`. Default: where there is one and no key or password is given, or \
             where the key that is given is a public one. Environment: `ETCD_SSH_AGENT`.",
        ),
        Attribute::bool("identities_only").describe(
            "Whether the agent may offer only the key that `private_key` or `private_key_file` names, and none of its others. \
             Default: true where that is a public key, false otherwise. Environment: `ETCD_SSH_IDENTITIES_ONLY`.",
        ),
        Attribute::string("known_hosts_file").describe(
            "The known host keys. Default: `~/.ssh/known_hosts` and `/etc/ssh/ssh_known_hosts`. \
             Environment: `ETCD_SSH_KNOWN_HOSTS_FILE`.",
        ),
    ]
}
