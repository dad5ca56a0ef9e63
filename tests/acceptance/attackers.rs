//! Attackers on a server: a program that has taken over etcd's user, and the server's other users. They want to be root, or to hold up an apply.

mod etcd_user;
mod local_user;
