//! Everything together, told as stories. One binary, because linking the server and the client takes longer than most
//! of what is told.

mod accounts;
mod alone;
mod apart;
mod background;
mod bad_input;
mod clocks;
mod commands;
mod contract;
mod crash;
mod damaged;
mod deletion;
mod desk;
mod doors;
mod hints;
mod killed;
mod learns_nothing;
mod malice;
mod moving;
mod network;
mod replicas;
mod restored;
mod secrecy;
mod slow_clients;
#[cfg(target_os = "linux")]
mod soak;
mod storage;
mod timing;
mod vault_durability;
mod vaults;
mod versions;
mod weeks;
mod wrong_logins;
