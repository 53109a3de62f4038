//! The users and groups of this machine, as `/etc/passwd` and `/etc/group` have them (passwd(5), group(5)).
//!
//! Not by `/proc/PID/status` of the peer: by the time it is read the number may be another process's. The two files know local
//! accounts only. Of an account of a directory service the kernel still says the group it runs under (`sg GROUP -c …`).

use std::io;
use std::path::Path;

use crate::files::regular;

/// Largest of the two files that is read.
const MAX_FILE: u64 = 4 << 20;

/// Both files, as they were when they were read. A line that is none is passed over.
#[derive(Debug, Clone, Default)]
pub struct Accounts {
    passwd: String,
    group: String,
}

impl Accounts {
    /// Reads the two files in `etc`.
    ///
    /// # Errors
    /// One of them cannot be read, is no ordinary file or has more than 4 MiB.
    pub fn read(etc: &Path) -> io::Result<Self> {
        let text = |name: &str| {
            let octets = regular(&etc.join(name), MAX_FILE);
            let octets = octets.map_err(|error| io::Error::other(format!("{}: {error}", etc.join(name).display())))?;
            Ok::<_, io::Error>(String::from_utf8_lossy(&octets).into_owned())
        };
        Ok(Self { passwd: text("passwd")?, group: text("group")? })
    }

    /// The number of the group that is called so.
    pub fn group(&self, name: &str) -> Option<u32> {
        entries(&self.group).find(|fields| fields.first() == Some(&name))?.get(2)?.parse().ok()
    }

    /// The name of the user with this number.
    pub fn user_name(&self, user: u32) -> Option<&str> {
        self.user(user)?.first().copied()
    }

    /// Whether the group is the user's own, or lists it among its members.
    pub fn is_member(&self, user: u32, group: u32) -> bool {
        let Some(fields) = self.user(user) else { return false };
        let own = fields.get(3).and_then(|id| id.parse().ok()) == Some(group);
        own || entries(&self.group).any(|entry| {
            let same = entry.get(2).and_then(|id| id.parse().ok()) == Some(group);
            same && entry.get(3).is_some_and(|members| members.split(',').any(|name| fields.first() == Some(&name)))
        })
    }

    fn user(&self, user: u32) -> Option<Vec<&str>> {
        entries(&self.passwd).find(|fields| fields.get(2).and_then(|id| id.parse().ok()) == Some(user))
    }
}

/// The fields of each line. A comment and a NIS line (`+…`, `-…`) name nobody.
fn entries(text: &str) -> impl Iterator<Item = Vec<&str>> {
    let lines = text.lines().filter(|line| !line.is_empty() && !line.starts_with(['#', '+', '-', ':']));
    lines.map(|line| line.split(':').collect())
}

#[cfg(test)]
impl Accounts {
    pub(super) fn of(passwd: &str, group: &str) -> Self {
        Self { passwd: passwd.to_owned(), group: group.to_owned() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn accounts() -> Accounts {
        Accounts::of(
            "root:x:0:0:root:/root:/bin/bash\n# yamada:x:0:0\n+nis:x:1:1\nyamada:x:1000:1000::/home/yamada:/bin/sh\nbroken\n\
             sato:x:1001:990::/:/bin/false\n",
            "root:x:0:\nsekisho-operators:x:990:tanaka,yamada\nyamada:x:1000:\nviewers:x:991:sato\nempty:x:992:\n",
        )
    }

    #[test]
    fn members_are_those_that_are_listed_and_those_whose_own_group_it_is() {
        let accounts = accounts();
        for (user, group, member) in [
            (1000, 990, true),
            (1000, 1000, true),
            (1000, 991, false),
            (1001, 990, true),
            (1001, 991, true),
            (1001, 992, false),
            (0, 990, false),
            (4242, 990, false),
            (1, 1, false),
        ] {
            assert_eq!(accounts.is_member(user, group), member, "user {user}, group {group}");
        }
    }

    #[test]
    fn names_and_numbers() {
        let accounts = accounts();
        assert_eq!((accounts.group("sekisho-operators"), accounts.group("nobody")), (Some(990), None));
        assert_eq!((accounts.user_name(1000), accounts.user_name(7)), (Some("yamada"), None));
    }

    #[test]
    fn files_that_are_none_and_files_without_end_are_refused() {
        let etc = tempfile::tempdir().expect("a directory");
        assert!(Accounts::read(etc.path()).expect_err("nothing there").to_string().contains("passwd"));
        std::fs::write(etc.path().join("passwd"), "a:x:1:1::/:/bin/sh\n").expect("written");
        std::fs::write(etc.path().join("group"), vec![b'x'; (4 << 20) + 1]).expect("written");
        assert!(Accounts::read(etc.path()).expect_err("large").to_string().contains("larger than 4 MiB"));
        std::fs::write(etc.path().join("group"), [0xff, b':']).expect("written");
        assert_eq!(Accounts::read(etc.path()).expect("read").user_name(1), Some("a"));
    }
}
