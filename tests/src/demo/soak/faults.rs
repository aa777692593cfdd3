//! The machines that have the datastores, and what happens to them: two endpoints and two stock SSH hosts, each behind a
//! proxy that can cut or stall. One endpoint stays the whole time, so that what it takes can be watched.

use std::time::{Duration, Instant};

use super::churn::{DATASTORES, FOLDERS};
use crate::disk::content::RandomStream;
use crate::error::LabError;
use crate::lab::{EndpointProcess, Faults, Lab, Offers, Proxy, Sshd};

/// How long a stall lasts: longer than it takes to notice.
const STALL: Duration = Duration::from_secs(35);

/// A machine behind a proxy.
struct Remote {
    proxy: Proxy,
    machine: FaultTarget,
    may_crash: bool,
    /// When it, or the network to it, recovers.
    until: Option<Instant>,
}

enum FaultTarget {
    Endpoint(EndpointProcess),
    Host(Sshd),
}

impl FaultTarget {
    fn kill(&mut self) -> Result<(), LabError> {
        match self {
            FaultTarget::Endpoint(endpoint) => endpoint.kill().map(drop),
            FaultTarget::Host(host) => host.kill(),
        }
    }
}

/// All machines.
pub(super) struct Peers {
    remotes: Vec<Remote>,
}

impl Peers {
    /// Starts them, and adds all datastores to the lab's service.
    pub(super) fn start(lab: &mut Lab) -> Result<Self, LabError> {
        let [local, stays, endpoint, sftp, scp] = DATASTORES;
        lab.add_local(local)?;
        let issuers = [lab.public_key()?.to_owned()];
        let mut remotes = Vec::new();
        for (name, may_crash) in [(stays, false), (endpoint, true)] {
            let endpoint = lab.serve_as(&format!("endpoint-{name}"), &[name], &issuers)?;
            let proxy = Proxy::new(endpoint.address())?;
            lab.add_endpoint_at(name, &proxy.address().to_string(), endpoint.host_key())?;
            remotes.push(Remote { proxy, machine: FaultTarget::Endpoint(endpoint), may_crash, until: None });
        }
        for (name, offers) in [(sftp, Offers::All), (scp, Offers::NoSftp)] {
            let host = lab.sshd(&format!("host-{name}"), offers, &[name])?;
            let proxy = Proxy::new(host.address())?;
            lab.add_ssh_at(name, proxy.address(), host.host_key())?;
            remotes.push(Remote { proxy, machine: FaultTarget::Host(host), may_crash: true, until: None });
        }
        for name in DATASTORES {
            let folders = FOLDERS.into_iter().map(toml::Value::from).collect::<Vec<_>>();
            lab.config.change(name, "folders", folders);
        }
        Ok(Self { remotes })
    }

    /// The process of the endpoint that stays.
    pub(super) fn endpoint_id(&self) -> Option<u32> {
        self.remotes.iter().find_map(|remote| match &remote.machine {
            FaultTarget::Endpoint(endpoint) if !remote.may_crash => endpoint.id(),
            _ => None,
        })
    }

    /// Something breaks: a connection is cut, a network stalls, a machine crashes.
    pub(super) fn inject_fault(&mut self, now: Instant, chance: &mut RandomStream) -> Result<(), LabError> {
        let healthy: Vec<&mut Remote> = self.remotes.iter_mut().filter(|remote| remote.until.is_none()).collect();
        let which = usize::try_from(chance.below(healthy.len() as u64)).unwrap_or(0);
        let Some(remote) = healthy.into_iter().nth(which) else { return Ok(()) };
        let (kind, after) = (chance.below(4), chance.below(4 << 20));
        if kind == 0 {
            remote.proxy.set(Faults { stall_after: Some(after), ..Faults::default() });
            remote.until = Some(now + STALL);
        } else if kind < 3 && remote.may_crash {
            remote.machine.kill()?;
            remote.until = Some(now + Duration::from_secs(2 + chance.below(12)));
        } else {
            remote.proxy.set(Faults { cut_after: Some(after), ..Faults::default() });
        }
        Ok(())
    }

    /// Recovers whatever has been broken long enough.
    pub(super) fn recover(&mut self, now: Instant) -> Result<(), LabError> {
        for remote in &mut self.remotes {
            if remote.until.is_some_and(|until| now >= until) {
                remote.recover()?;
            }
        }
        Ok(())
    }

    /// Recovers everything.
    pub(super) fn recover_all(&mut self) -> Result<(), LabError> {
        self.remotes.iter_mut().try_for_each(Remote::recover)
    }

    /// Ends all machines.
    pub(super) fn end(&mut self) -> Result<(), LabError> {
        for remote in &mut self.remotes {
            match &mut remote.machine {
                FaultTarget::Endpoint(endpoint) => drop(endpoint.terminate()?.expect_code(0)?),
                FaultTarget::Host(host) => host.kill()?,
            }
        }
        Ok(())
    }
}

impl Remote {
    fn recover(&mut self) -> Result<(), LabError> {
        self.until = None;
        self.proxy.set(Faults::default());
        let address = match &mut self.machine {
            FaultTarget::Endpoint(endpoint) => {
                if endpoint.id().is_none() {
                    endpoint.restart()?;
                }
                endpoint.address()
            }
            FaultTarget::Host(host) => {
                if !host.is_running() {
                    host.restart()?;
                }
                host.address()
            }
        };
        self.proxy.redirect(address);
        Ok(())
    }
}
