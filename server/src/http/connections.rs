//! How many connections one address may hold.
//!
//! A connection is counted when its first request arrives and let go when it closes; before that, the time limit for
//! the head of a request and the limit on all connections bound it. The proxies that are declared as ours may hold as
//! many as they like.

use std::cell::RefCell;
use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};

/// The count of every address that holds a connection.
#[derive(Debug)]
pub struct Connections {
    held: Mutex<HashMap<IpAddr, u32>>,
    most: u32,
}

/// One connection, in the keeping of the web framework for as long as it is open.
#[derive(Default)]
pub struct Connection(RefCell<Option<Held>>);

struct Held {
    connections: Arc<Connections>,
    address: IpAddr,
}

impl Connections {
    pub fn new(most: u32) -> Arc<Self> {
        Arc::new(Connections { held: Mutex::default(), most })
    }

    /// Counting is a single step under the lock, so a panic elsewhere cannot have spoiled it.
    fn count(&self) -> std::sync::MutexGuard<'_, HashMap<IpAddr, u32>> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Connection {
    /// Counts this connection for its address, once. False if the address holds too many.
    pub(super) fn is_admitted(&self, connections: &Arc<Connections>, address: IpAddr) -> bool {
        let address = customer(address);
        let mut held = self.0.borrow_mut();
        if held.is_some() {
            return true;
        }
        let mut count = connections.count();
        let of_address = count.entry(address).or_default();
        if *of_address >= connections.most {
            return false;
        }
        *of_address += 1;
        *held = Some(Held { connections: connections.clone(), address });
        true
    }
}

/// An IPv6 address counts by its /64, which is what one customer is given.
fn customer(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(v6) => IpAddr::V6((u128::from(v6) >> 64 << 64).into()),
        v4 => v4,
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        let mut count = self.connections.count();
        if let Some(of_address) = count.get_mut(&self.address) {
            *of_address -= 1;
            if *of_address == 0 {
                count.remove(&self.address);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_holds_so_many_and_each_that_closes_makes_room() {
        let connections = Connections::new(2);
        let address = IpAddr::from([192, 0, 2, 7]);
        let (one, two, three) = (Connection::default(), Connection::default(), Connection::default());
        assert!(one.is_admitted(&connections, address) && two.is_admitted(&connections, address));
        assert!(one.is_admitted(&connections, address), "its next request is not a new connection");
        assert!(!three.is_admitted(&connections, address));
        assert!(three.is_admitted(&connections, IpAddr::from([192, 0, 2, 8])));
        drop(one);
        assert!(Connection::default().is_admitted(&connections, address));
        drop((two, three));
        assert!(connections.count().is_empty(), "nobody is remembered who is not here");
    }

    #[test]
    fn an_ipv6_address_counts_by_what_one_customer_is_given() {
        let connections = Connections::new(1);
        let (one, two, three) = (Connection::default(), Connection::default(), Connection::default());
        assert!(one.is_admitted(&connections, "2001:db8:1:2::1".parse().unwrap()));
        assert!(!two.is_admitted(&connections, "2001:db8:1:2:ffff::9".parse().unwrap()), "the same /64");
        assert!(three.is_admitted(&connections, "2001:db8:1:3::1".parse().unwrap()), "the next /64");
    }
}
