//! Bundle endpoints that lie, stall and mislead (ATK-36, ATK-37, FED): the node's own client against real TLS servers, and a
//! whole node with such peers beside a good one.

mod bodies;
mod names;
mod node;
mod redirects;
mod servers;
mod world;
