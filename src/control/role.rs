//! Who a peer is, and what it may ask for.

use std::fmt;

use super::Settings;
use super::accounts::Accounts;
use super::protocol::Ask;

/// What is given to whom (権限管理).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Role {
    /// May look.
    Viewer,
    /// May change too.
    Operator,
    /// May take the service's place too: root, and the user that the service runs as.
    Itself,
}

impl Role {
    /// What `ask` takes.
    pub fn for_asking(ask: &Ask) -> Self {
        match ask {
            Ask::Status {} | Ask::Sessions { .. } => Self::Viewer,
            Ask::Cut { .. } | Ask::Reload { .. } | Ask::Trial { .. } | Ask::Confirm { .. } | Ask::Rollback {} => {
                Self::Operator
            }
            Ask::Stderr {} | Ask::TakeOver {} => Self::Itself,
        }
    }

    /// Whoever has it, as the subject of a sentence.
    pub fn somebody(self) -> &'static str {
        match self {
            Self::Viewer => "a viewer",
            Self::Operator => "an operator",
            Self::Itself => "root or the service's own user",
        }
    }
}

/// The process at the other end, as it was when it connected.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Peer {
    pub user: u32,
    /// `None`: in none of the files.
    pub name: Option<String>,
    /// The effective one.
    pub group: u32,
    /// `None`: of another namespace.
    pub process: Option<u32>,
}

impl Peer {
    /// `None`: it may ask for nothing. `service` is the user that the service runs as.
    pub fn role(&self, settings: &Settings, service: u32, accounts: &Accounts) -> Option<Role> {
        let in_group = |group: &Option<super::Group>| {
            group.as_ref().is_some_and(|group| self.group == group.id || accounts.is_member(self.user, group.id))
        };
        if self.user == 0 || self.user == service {
            Some(Role::Itself)
        } else if in_group(&settings.operators) {
            Some(Role::Operator)
        } else if in_group(&settings.viewers) {
            Some(Role::Viewer)
        } else {
            None
        }
    }
}

impl fmt::Display for Peer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.name {
            Some(name) => write!(f, "{name} (user {})", self.user),
            None => write!(f, "user {}", self.user),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::Group;
    use super::*;

    fn group(id: u32) -> Option<Group> {
        Some(Group { name: id.to_string(), id })
    }

    #[test]
    fn a_role_is_given_by_the_kernels_word_and_the_files() {
        let accounts = Accounts::of("yamada:x:1000:1000\nsato:x:1001:1001\n", "ops:x:990:yamada\nview:x:991:sato\n");
        let both = Settings { socket: "s".into(), viewers: group(991), operators: group(990) };
        let nobody = Settings { viewers: None, operators: None, ..both.clone() };
        let rows = [
            // user, effective group, with groups, without
            (0, 0, Some(Role::Itself), Some(Role::Itself)),
            (500, 500, Some(Role::Itself), Some(Role::Itself)),
            (1000, 1000, Some(Role::Operator), None),
            (1001, 1001, Some(Role::Viewer), None),
            // `sg ops`: an account that no file knows.
            (70_000, 990, Some(Role::Operator), None),
            (70_000, 991, Some(Role::Viewer), None),
            (70_000, 70_000, None, None),
        ];
        for (user, group, with, without) in rows {
            let peer = Peer { user, name: None, group, process: None };
            assert_eq!(peer.role(&both, 500, &accounts), with, "user {user}, group {group}");
            assert_eq!(peer.role(&nobody, 500, &accounts), without, "user {user}, group {group}");
        }
        assert_eq!((both.mode(), nobody.mode()), (0o666, 0o600));
    }

    #[test]
    fn viewers_only_look() {
        let look = [Ask::Status {}, Ask::Sessions { client: None, service: None, after: None }];
        assert!(look.iter().all(|ask| Role::for_asking(ask) == Role::Viewer));
        let revision = || "0".to_owned();
        let change = [
            Ask::Cut { id: String::new() },
            Ask::Reload { revision: revision() },
            Ask::Trial { revision: revision(), seconds: 1 },
            Ask::Confirm { revision: revision() },
            Ask::Rollback {},
        ];
        assert!(change.iter().all(|ask| Role::for_asking(ask) == Role::Operator));
        assert!([Ask::Stderr {}, Ask::TakeOver {}].iter().all(|ask| Role::for_asking(ask) == Role::Itself));
        assert!(Role::Itself > Role::Operator && Role::Operator > Role::Viewer);
    }
}
