//! `sekisho pac`: the script for browsers, on standard output.

use std::io::Write;
use std::net::IpAddr;
use std::process::ExitCode;

use super::{ConfigFile, DONE, complain, fail};
use crate::addrs::ClientAddr;
use crate::autoconfig::MOST;
use crate::config::Scope;
use crate::pac;

#[derive(clap::Args)]
pub(super) struct Arguments {
    #[command(flatten)]
    config: ConfigFile,
    /// An address of the clients it is for: what they are permitted depends on their `[[clients]]`
    #[arg(long, value_name = "IP")]
    client: Option<IpAddr>,
}

pub(super) fn pac(arguments: &Arguments) -> ExitCode {
    let config = match arguments.config.load(Scope::WithoutIssuingCa) {
        Ok(config) => config,
        Err(code) => return code,
    };
    let Some(settings) = &config.pac else {
        return fail(&format!(
            "{} has no [pac]: add it with proxies = [\"…:8080\"], this proxy as browsers reach it",
            config.file.display()
        ));
    };
    let groups: Vec<_> = config.policy.groups().collect();
    let client = match (arguments.client, groups.as_slice()) {
        (Some(client), _) => client,
        (None, [group]) if !group.networks.is_empty() => {
            group.networks.first().map_or(IpAddr::from([0; 4]), |net| net.addr())
        }
        (None, groups) => {
            let names: Vec<_> = groups.iter().map(|group| format!("{:?}", group.name)).collect();
            return fail(&format!(
                "--client IP is due: there are the [[clients]] {}, and each has a script of its own",
                names.join(", ")
            ));
        }
    };
    match pac::script(&config.policy, ClientAddr::new((client, 0).into()), settings) {
        Some(script) => {
            if script.len() > MOST {
                complain(&format!(
                    "warning: the script has {} octets, and browsers take no more than {MOST}",
                    script.len()
                ));
            }
            // Whoever saves it must learn that it is not whole.
            let mut out = std::io::stdout().lock();
            match out.write_all(script.as_bytes()).and_then(|()| out.flush()) {
                Ok(()) => DONE.into(),
                Err(error) => fail(&format!("the script could not be written: {error}")),
            }
        }
        None => fail(&format!("{client} is in no [[clients]]: it would be refused everything")),
    }
}
