//! What is known of one name: which addresses are pods, by the answers so far; pure.
use crate::limits::{DNS_ABSENT_MAX, DNS_ADDRESSES_MAX};
use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

/// The addresses that a resolver names; none if it says that there are none. Or why it cannot say.
pub(super) type Answer = Result<Vec<IpAddr>, String>;

/// The addresses of a name, and for each how many answers in a row have left it out.
///
/// A name that cannot be resolved keeps its addresses. So does one whose latest answers are partial: an address that an
/// answer leaves out gets no requests until it is named again, and goes only after [`DNS_ABSENT_MAX`] such answers in a row.
/// An answer without any address is more often a fault on the way than the end of all pods: it counts as leaving them all
/// out, but until they go they are served as before.
///
/// Pods often have an address of each family. Only those of one are taken: IPv4, if the first answer has any; the other
/// family has its turn once nothing is left of the first.
#[derive(Debug, Default)]
pub(super) struct Addresses {
    known: BTreeMap<IpAddr, Known>,
}

/// What is known of one address.
#[derive(Clone, Copy, Debug, Default)]
struct Known {
    /// Answers in a row that have left it out.
    absent: u32,
    /// Whether the latest answer with any address has left it out.
    left_out: bool,
}

impl Addresses {
    /// Takes a definite answer over; says what of it cannot be used. O(addresses log addresses).
    pub(super) fn take(&mut self, named: &[IpAddr]) -> Result<(), String> {
        // In order, so that it is the same ones each time if there are too many.
        let named: BTreeSet<_> = named.iter().map(IpAddr::to_canonical).collect();
        let usable = |address: &IpAddr| !address.is_unspecified() && !address.is_multicast();
        let family = self.known.keys().next().map(IpAddr::is_ipv4);
        let ipv4 = family.unwrap_or_else(|| named.iter().any(IpAddr::is_ipv4));
        let ours = named
            .iter()
            .filter(|&a| a.is_ipv4() == ipv4 && usable(a))
            .copied();
        let ours: BTreeSet<_> = ours.collect();
        for (address, known) in &mut self.known {
            let absent = !ours.contains(address);
            known.absent = if absent { known.absent + 1 } else { 0 };
            if !ours.is_empty() {
                known.left_out = absent;
            }
        }
        self.known.retain(|_, known| known.absent < DNS_ABSENT_MAX);
        for address in &ours {
            if self.known.len() < DNS_ADDRESSES_MAX {
                self.known.entry(*address).or_default();
            }
        }
        let over = ours.iter().filter(|&a| !self.known.contains_key(a)).count();
        match over {
            0 => Ok(()),
            over => Err(format!(
                "{over} addresses are left out: {DNS_ADDRESSES_MAX} can be pods"
            )),
        }
    }

    /// The addresses that are pods, in order, and whether requests may be sent there.
    pub(super) fn pods(&self) -> impl Iterator<Item = (IpAddr, bool)> {
        self.known.iter().map(|(&at, known)| (at, !known.left_out))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::Ipv4Addr;

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    /// After each of the answers: the addresses, those without requests in brackets.
    fn after(answers: &[&str]) -> Vec<String> {
        let mut addresses = Addresses::default();
        let mut states = Vec::new();
        for answer in answers {
            let named: Vec<_> = answer.split_whitespace().map(ip).collect();
            addresses.take(&named).unwrap();
            let pods = addresses.pods().map(|(at, serving)| match serving {
                true => at.to_string(),
                false => format!("({at})"),
            });
            states.push(pods.collect::<Vec<_>>().join(" "));
        }
        states
    }

    #[test]
    fn an_address_goes_after_three_answers_without_it() {
        let found = after(&[
            "10.0.0.2 10.0.0.1",
            "10.0.0.1",
            "10.0.0.1 10.0.0.2",
            "10.0.0.1",
            "10.0.0.1 10.0.0.3",
            "10.0.0.3",
            "10.0.0.2",
        ]);
        let expected = [
            "10.0.0.1 10.0.0.2",
            "10.0.0.1 (10.0.0.2)",
            "10.0.0.1 10.0.0.2",
            "10.0.0.1 (10.0.0.2)",
            "10.0.0.1 (10.0.0.2) 10.0.0.3",
            "(10.0.0.1) 10.0.0.3",
            "(10.0.0.1) 10.0.0.2 (10.0.0.3)",
        ];
        assert_eq!(found, expected);
    }

    #[test]
    fn an_answer_without_addresses_lets_all_go_only_the_third_time() {
        let found = after(&["10.0.0.1", "", "", "10.0.0.1", "", "", "", "10.0.0.1"]);
        let one = "10.0.0.1";
        assert_eq!(found, [one, one, one, one, one, one, "", one]);
        // It counts with those that named others.
        let found = after(&["10.0.0.1 10.0.0.2", "10.0.0.2", "", ""]);
        let left_out = "(10.0.0.1) 10.0.0.2";
        let all = "10.0.0.1 10.0.0.2";
        assert_eq!(found, [all, left_out, left_out, "10.0.0.2"]);
    }

    #[test]
    fn one_family_is_taken() {
        let found = after(&[
            "fd00::1 10.0.0.1",
            "fd00::1",
            "fd00::1",
            "fd00::1",
            "fd00::1",
            "fd00::1 10.0.0.1",
        ]);
        // IPv4 is gone before the other family has its turn.
        let four = "10.0.0.1";
        assert_eq!(found, [four, four, four, "", "fd00::1", "fd00::1"]);
        assert_eq!(after(&["::ffff:10.0.0.1 10.0.0.1"]), [four]);
        assert_eq!(after(&["0.0.0.0 224.0.0.1 10.0.0.1"]), [four]);
    }

    #[test]
    fn addresses_are_bounded_and_it_is_said() {
        let many: Vec<_> = (0..5_000_u32)
            .map(|n| IpAddr::V4(Ipv4Addr::from_bits(0x0a00_0000 + n)))
            .collect();
        let mut addresses = Addresses::default();
        let said = addresses.take(&many).unwrap_err();
        assert!(said.contains("904 addresses"), "{said}");
        assert_eq!(addresses.pods().count(), 4_096);
        assert!(addresses.pods().all(|(at, _)| at < ip("10.0.16.0")));
    }
}
