//! What a server could do to its vaults behind everybody's back.
//!
//! Owns the reaching in: entries nobody may write, logs that end earlier, another key. Decides nothing.

use super::server::World;
use super::vaults::{One, People, Vaults};
use selkie_protocol::cipher::SigningKey;
use selkie_protocol::hash::sha256;
use selkie_protocol::id::{Incarnation, VaultId};
use selkie_protocol::log::{Frame, Head, chain};
use std::collections::BTreeMap;
use std::sync::Arc;

impl World {
    pub(crate) fn people(&mut self) -> People {
        self.learn_people().unwrap();
        self.people.clone()
    }
}

impl One {
    /// Puts a frame at the end that the rules may forbid, as a server that lies can.
    pub(crate) fn append_unasked(&mut self, frame: &[u8]) -> Head {
        let n = self.frames.len() as u64 + 1;
        let entry = Frame::parse(frame).unwrap().entry.hash();
        let h = chain(&self.chain[n as usize - 1], n, &entry);
        self.frames.push(frame.to_vec());
        self.chain.push(h);
        Head { n, h }
    }

    /// As it was at an earlier position.
    pub(crate) fn back_to(&self, n: u64, people: &People) -> One {
        let mut one = One::begin(&self.frames[0], people, self.dates[0]).unwrap();
        for (frame, came) in self.frames.iter().zip(&self.dates).take(n as usize).skip(1) {
            one.append(frame, people, *came).unwrap();
        }
        one.wraps = self.wraps.clone();
        one
    }
}

impl Vaults {
    pub(crate) fn replace_key(&mut self) {
        self.key = Arc::new(SigningKey::generate());
    }

    /// The server is restored from a backup in which these vaults ended earlier, or, at 0, were not made yet.
    pub(crate) fn restore(&mut self, ends: &BTreeMap<VaultId, u64>, people: &People) {
        self.incarnation = Incarnation(sha256(self.incarnation.as_bytes())[..16].try_into().unwrap());
        for (vault, n) in ends {
            let one = self.all.remove(vault).unwrap();
            if *n > 0 {
                self.all.insert(*vault, one.back_to(*n, people));
            }
        }
    }
}
