//! Log control, incidents and the installation: transitions, invariants under random commands, and what hostile logs may not do.

#[cfg(test)]
mod answers;
#[cfg(test)]
mod certificates;
#[cfg(test)]
mod hostile;
#[cfg(test)]
mod incidents;
#[cfg(test)]
mod installation;
#[cfg(test)]
mod key_orders;
#[cfg(test)]
mod machine;
#[cfg(test)]
mod moves;
#[cfg(test)]
mod orders;
#[cfg(test)]
mod permits;
#[cfg(test)]
mod signers;
#[cfg(test)]
mod support;
#[cfg(test)]
mod tree;
