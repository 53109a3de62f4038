//! Limits on who may come in, how often, how much at once and how fast. A slot is a value, given back when it is dropped; there is
//! no `release`. [`Admission`] is a connection's, for its whole life, a tunnel's included; [`Visit`] an attempt's at its service.
//!
//! | file | is |
//! |---|---|
//! | `quota` | the words, and what each may have: [`Settings`] |
//! | `meter` | what one of those who are limited has used |
//! | `rate` | what comes too fast is refused |
//! | `delay` | refusals that are held back |
//! | `ledger` | a rate of octets, and what those who share it owe |
//! | `pace` | octets that go too fast are slowed: [`Pace`] |
//! | `clients` | the bounded store of the clients' meters |
//! | `subjects` | those an attempt is under, asked together: [`Subjects`], [`Slots`] |
//!
//! A client, a group, a service and all together have the same kinds of limits by the same code. A reload replaces the limits and
//! keeps the meters: slots stay held, a rate keeps what it knows. Nothing a client sends (`X-Forwarded-For`) is asked here (B09).

mod clients;
mod delay;
mod ledger;
mod meter;
mod pace;
mod quota;
mod rate;
mod subjects;

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use arc_swap::ArcSwap;

pub use self::clients::ClientKey;
use self::clients::Clients;
use self::delay::Delays;
pub use self::pace::Pace;
pub use self::quota::{Counted, GroupQuotas, Limit, Quotas, Rate, Rated, Refused, ServiceQuotas, Settings, Way, Whose};
use self::rate::Clock;
use self::subjects::{InForce, Subject};
pub use self::subjects::{Slots, Subjects};
use crate::addrs::ClientAddr;

/// Connections that are nobody's share yet: about what a browser opens for one page.
const FREE: u64 = 8;

/// Those a connection is counted with from its accept on; its services come later.
const AT_ACCEPT: [Whose; 3] = [Whose::All, Whose::Group, Whose::Client];

/// The process's limits; one for all listeners.
pub struct Limits {
    clock: Clock,
    all: Subject,
    clients: Clients,
    /// Clients that hold a connection.
    holders: AtomicU64,
    table: ArcSwap<Table>,
    /// Whether octets are limited for anybody, so that nothing is asked where they are not.
    paces: AtomicBool,
    /// How often each limit refused or slowed something.
    reached: [[AtomicU64; Whose::ALL.len()]; Limit::ALL.len()],
    delays: Delays,
}

/// Who is limited by name.
struct Table {
    ipv6_prefix: u8,
    /// Of a client in no group.
    per_client: InForce,
    groups: HashMap<String, Group>,
    services: HashMap<String, Subject>,
}

struct Group {
    whole: Subject,
    per_client: InForce,
}

/// A connection's slot.
pub struct Admission {
    slots: Slots,
}

/// An attempt's slot with its service.
pub struct Visit {
    slots: Slots,
}

impl Limits {
    pub fn new(settings: &Settings) -> Arc<Self> {
        let clock = Clock::start();
        Arc::new(Self {
            all: Subject::new(&settings.all, clock),
            clients: Clients::new(clock.tick()),
            holders: AtomicU64::new(0),
            table: ArcSwap::from_pointee(Table::new(settings, None, clock)),
            paces: settings.paces().into(),
            reached: Default::default(),
            delays: Delays::default(),
            clock,
        })
    }

    /// Takes up new settings. Held slots stay, and what is known of a rate.
    pub fn reconfigure(&self, settings: &Settings) {
        self.all.terms.replace(&settings.all, self.clock);
        self.table.store(Arc::new(Table::new(settings, Some(&self.table.load()), self.clock)));
        self.paces.store(settings.paces(), Ordering::Relaxed);
    }

    /// A slot for a connection just accepted, or why there is none. `group` is the client's. The rates are asked first: what is
    /// over them costs nothing more.
    ///
    /// # Errors
    /// Whose limit is used up.
    pub fn admit(self: &Arc<Self>, client: ClientAddr, group: Option<&str>) -> Result<Admission, Refused> {
        let subjects = self.subjects(client, group);
        subjects.charge(Rated::NewConnections)?;
        Ok(Admission { slots: subjects.hold_with(&AT_ACCEPT, Counted::Connections)? })
    }

    /// A slot for a connection that was admitted by the process that was taken over from: it is counted, and not refused.
    pub fn readmit(self: &Arc<Self>, client: ClientAddr, group: Option<&str>) -> Admission {
        Admission { slots: self.subjects(client, group).hold_anyway(&AT_ACCEPT, Counted::Connections) }
    }

    fn subjects(self: &Arc<Self>, client: ClientAddr, group: Option<&str>) -> Arc<Subjects> {
        let table = self.table.load();
        let meter = self.clients.meter(ClientKey::of(client, table.ipv6_prefix), self.clock.tick());
        let group = group.and_then(|name| table.groups.get(name));
        let terms = group.map_or(&table.per_client, |group| &group.per_client).clone();
        let client = Subject { meter, terms };
        let group = group.map(|group| group.whole.clone());
        Arc::new(Subjects { limits: Arc::clone(self), client, group, service: None })
    }

    /// Whether the client holds as many connections as the mean of those who hold any, or more. Below [`FREE`] it never does.
    pub fn has_share(&self, client: ClientAddr) -> bool {
        let key = self.key_of(client);
        let held = u64::from(self.clients.meter(key, self.clock.tick()).0.held(Counted::Connections));
        held >= FREE
            && held.saturating_mul(self.holders.load(Ordering::Relaxed)) >= self.held(Counted::Connections).into()
    }

    /// Whom the client is counted as.
    pub fn key_of(&self, client: ClientAddr) -> ClientKey {
        ClientKey::of(client, self.table.load().ipv6_prefix)
    }

    /// Takes as long as the refusal of who came too fast is held back.
    pub async fn hold_back(&self) {
        self.delays.hold_back().await;
    }

    /// Held now by all together.
    pub fn held(&self, what: Counted) -> u32 {
        self.all.meter.0.held(what)
    }

    /// Clients that are told apart now.
    pub fn clients(&self) -> usize {
        self.clients.len()
    }

    /// How often each limit refused or slowed something.
    pub fn reached(&self) -> impl Iterator<Item = (Limit, Whose, u64)> {
        let cells = Limit::ALL.into_iter().flat_map(|limit| Whose::ALL.map(|whose| (limit, whose)));
        cells.map(|(limit, whose)| (limit, whose, self.cell(limit, whose).load(Ordering::Relaxed)))
    }

    fn refuse(&self, limit: Limit, whose: Whose) -> Refused {
        self.note(limit, whose);
        Refused { limit, whose }
    }

    fn note(&self, limit: Limit, whose: Whose) {
        self.cell(limit, whose).fetch_add(1, Ordering::Relaxed);
    }

    fn cell(&self, limit: Limit, whose: Whose) -> &AtomicU64 {
        &self.reached[limit as usize][whose as usize]
    }
}

impl Table {
    /// Those who were in `previous` under the same name keep their meters and, with them, their terms are replaced for all who
    /// hold them.
    fn new(settings: &Settings, previous: Option<&Self>, clock: Clock) -> Self {
        let in_force = |before: Option<&InForce>, quotas: &Quotas| match before {
            Some(terms) => {
                terms.replace(quotas, clock);
                terms.clone()
            }
            None => InForce::new(quotas, clock),
        };
        let subject = |before: Option<&Subject>, quotas: &Quotas| Subject {
            meter: before.map(|subject| subject.meter.clone()).unwrap_or_default(),
            terms: in_force(before.map(|subject| &subject.terms), quotas),
        };
        let groups = settings.groups.iter().map(|group| {
            let before = previous.and_then(|table| table.groups.get(&group.name));
            let whole = subject(before.map(|group| &group.whole), &group.whole);
            let per_client = in_force(before.map(|group| &group.per_client), &group.per_client);
            (group.name.clone(), Group { whole, per_client })
        });
        let services = settings.services.iter().map(|service| {
            let before = previous.and_then(|table| table.services.get(&service.name));
            (service.name.clone(), subject(before, &service.whole))
        });
        Self {
            ipv6_prefix: settings.ipv6_prefix,
            per_client: in_force(previous.map(|table| &table.per_client), &settings.per_client),
            groups: groups.collect(),
            services: services.collect(),
        }
    }
}

impl Admission {
    /// Those it is counted with.
    pub fn subjects(&self) -> &Arc<Subjects> {
        self.slots.subjects()
    }

    /// A slot for an attempt at the service of this name, which is charged for it as `by`.
    ///
    /// # Errors
    /// The service's limit is used up.
    pub fn visit(&self, service: &str, by: Rated) -> Result<Visit, Refused> {
        let subjects = self.at(service);
        subjects.charge_to(&[Whose::Service], by)?;
        Ok(Visit { slots: subjects.hold_with(&[Whose::Service], Counted::Connections)? })
    }

    /// The same for an attempt of the process that was taken over from: it is counted, and not refused.
    pub fn revisit(&self, service: &str) -> Visit {
        Visit { slots: self.at(service).hold_anyway(&[Whose::Service], Counted::Connections) }
    }

    fn at(&self, service: &str) -> Arc<Subjects> {
        let Subjects { limits, client, group, service: _ } = &**self.subjects();
        let service = limits.table.load().services.get(service).cloned();
        let (limits, client, group) = (Arc::clone(limits), client.clone(), group.clone());
        Arc::new(Subjects { limits, client, group, service })
    }
}

impl Visit {
    /// Those the attempt is counted with, its service among them.
    pub fn subjects(&self) -> &Arc<Subjects> {
        self.slots.subjects()
    }
}

#[cfg(test)]
mod tests;
