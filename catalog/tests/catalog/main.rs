//! The catalog as those who use it see it. Each test has a file of its own and a clock that it sets itself.

#[cfg(test)]
mod attempts;
#[cfg(test)]
mod bench;
#[cfg(test)]
mod full;
#[cfg(test)]
mod growth;
#[cfg(test)]
mod inventory;
#[cfg(test)]
mod jobs;
#[cfg(test)]
mod leases;
#[cfg(test)]
mod notify;
#[cfg(test)]
mod opening;
#[cfg(test)]
mod records;
#[cfg(test)]
mod search;
#[cfg(test)]
mod tokens;
#[cfg(test)]
mod upgrading;
#[cfg(test)]
mod versions;
