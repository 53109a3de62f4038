pub mod certificate;
pub mod connect;
mod dns;
mod handshake;
mod race;
pub mod resolve;
mod revocation;
#[cfg(test)]
mod testing;
pub mod trust;
mod verifier;
pub mod verify;
pub mod vet;
