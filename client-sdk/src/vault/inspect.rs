//! Looking into a vault's log: what a person reads, verifies and hands on as proof.
//!
//! Owns the words for entries. Changes nothing.

use super::{Digest, Vault};
use crate::error::Result;
use selkie_protocol::id::{DeviceId, UserId};
use selkie_protocol::log::{Body, Control, Entry, Frame, Role};

/// One entry of the log, in words.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogEntry {
    /// Where it stands.
    pub n: u64,
    /// Who wrote it.
    pub author: UserId,
    /// On which device.
    pub device: DeviceId,
    /// The author's clock.
    pub unix_ms: u64,
    /// Under which key.
    pub epoch: u32,
    /// What it did, in a few words: `3 changes`, `added ... as editor`.
    pub what: String,
    /// How long it is, as it travels.
    pub bytes: usize,
}

/// The outcome of [`Vault::verify`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Verified {
    /// Entries that were fetched again and verified from the first on; 0 if the server does not have all of them.
    pub entries: u64,
    /// What two devices compare.
    pub digest: Digest,
    /// Current versions of records that were opened.
    pub records: u64,
}

impl Vault {
    /// The entries from a position on that this device keeps (those of the last 30 days), oldest first.
    pub async fn log(&self, from: u64) -> Result<Vec<LogEntry>> {
        let to = self.glance().await?.head.n;
        self.read(move |room, vault| {
            let frames = room.store.frames(vault, from.max(1), to)?;
            Ok(frames.iter().filter_map(|(n, bytes)| describe(*n, bytes)).collect())
        })
        .await
    }

    /// Verifies the vault once more from the first entry on, as the server shows it now, and opens every record that is
    /// kept here.
    pub async fn verify(&self) -> Result<Verified> {
        let entries = self.alone(async |round| round.verify_again().await).await?;
        let digest = self.digest().await?;
        let records = self
            .read(|room, vault| {
                let mut records = 0;
                for version in room.store.current(vault, None)? {
                    let opened = room.at_rest.open_record(vault, &version.record, &version.sealed);
                    opened.map_err(|_| crate::Error::damaged("a record"))?;
                    records += 1;
                }
                Ok(records)
            })
            .await?;
        Ok(Verified { entries, digest, records })
    }

    /// The vault's log from its first entry on, without what is in the records, as a file in which anybody can check it
    /// with [`judge`](crate::judge): who wrote when, and that the server vouches for it. It asks the server only for
    /// what is no longer kept here.
    pub async fn export_log(&self) -> Result<Vec<u8>> {
        self.alone(async |round| round.export_log().await).await
    }

    /// What was seen when the server was caught at this vault, oldest first: files in which anybody can check with
    /// [`judge`](crate::judge) what they prove.
    pub async fn export_evidence(&self) -> Result<Vec<Vec<u8>>> {
        let names = self
            .alone(async |round| {
                round.load().await?;
                Ok(round.replica()?.state.evidence.clone())
            })
            .await?;
        let (store, folder) = (self.account.context().keeper.store.clone(), self.here().account.kept().folder());
        self.read(move |_, _| {
            let mut documents = Vec::new();
            for name in names {
                documents.extend(store.load(&folder, &name)?);
            }
            Ok(documents)
        })
        .await
    }

    /// For an owner, after [`VaultState::ServerBehind`](crate::VaultState::ServerBehind) on this device or on somebody
    /// else's, and when no other device could help: goes on without what the server has lost. Other people's devices
    /// show what is lost and ask once; what this device wrote itself is written again.
    pub async fn reset_tail(&self) -> Result<()> {
        self.alone(async |round| round.reset_tail().await).await
    }

    /// After [`VaultState::TailReset`](crate::VaultState::TailReset), and only if the person agrees: goes on as the
    /// owner has decided. What this device wrote itself is written again; the rest of what is lost goes.
    pub async fn accept_reset(&self) -> Result<()> {
        self.alone(async |round| round.accept_reset().await).await
    }

    /// Writes a checkpoint now, from which new devices can begin. One is written by itself when it is due.
    pub async fn write_checkpoint(&self) -> Result<()> {
        self.alone(async |round| {
            round.checkpoint_wanted = true;
            round.come_into_step(false).await
        })
        .await
    }
}

fn describe(n: u64, bytes: &[u8]) -> Option<LogEntry> {
    let entry = Entry::parse(Frame::entry_bytes(bytes).ok()?).ok()?;
    let what = match &entry.body {
        Body::Control(control) => in_words(control),
        Body::Data(data) if data.len() == 1 => "1 change".to_owned(),
        Body::Data(data) => format!("{} changes", data.len()),
        Body::Checkpoint(checkpoint) => format!("a checkpoint of {} live changes", checkpoint.root.live),
        Body::Heartbeat => "a sign of life".to_owned(),
    };
    let header = entry.header;
    Some(LogEntry {
        n,
        author: header.user,
        device: header.device,
        unix_ms: header.unix_ms,
        epoch: header.epoch,
        what,
        bytes: bytes.len(),
    })
}

fn in_words(control: &Control) -> String {
    match control {
        Control::Create(create) => format!("made the vault for {}", create.app.as_str()),
        Control::AddMember { user, role, .. } => format!("added {user} as {}", role_word(*role)),
        Control::SetRole { user, role } => format!("made {user} {}", role_word(*role)),
        Control::RemoveRotate(rotate) if rotate.removed.is_empty() => format!("began epoch {}", rotate.epoch),
        Control::RemoveRotate(rotate) => {
            let gone: Vec<String> = rotate.removed.iter().map(ToString::to_string).collect();
            format!("removed {} and began epoch {}", gone.join(", "), rotate.epoch)
        }
        Control::Anchor { anchor, .. } => format!("showed their devices up to entry {}", anchor.index),
        Control::Policy(_) => "raised what the vault demands".to_owned(),
        Control::InviteOpen { role, .. } => format!("invited somebody as {}", role_word(*role)),
        Control::InviteClose { .. } => "took an invitation back".to_owned(),
        Control::ResetTail { n } => format!("went on from {n}, without what the server had lost"),
    }
}

fn role_word(role: Role) -> &'static str {
    match role {
        Role::Viewer => "viewer",
        Role::Editor => "editor",
        Role::Admin => "admin",
        Role::Owner => "owner",
        Role::Recovery => "recovery",
    }
}
