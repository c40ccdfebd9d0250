//! The scenarios, and what they have in common.

pub(crate) mod backup;
pub(crate) mod calls;
pub(crate) mod entries;
pub(crate) mod federation;
pub(crate) mod first;
pub(crate) mod issue;
pub(crate) mod propagate;
pub(crate) mod restart;
pub(crate) mod revoke;
pub(crate) mod rotate;
pub(crate) mod streams;

use crate::clients::entries_of_others;
use crate::nodes::OwnNodes;
use crate::product::Product;
use crate::trouble::Trouble;
use std::path::PathBuf;

/// What the command line chose.
pub(crate) struct Options {
    /// Interleaved rounds.
    pub(crate) rounds: usize,
    /// Nodes that run already.
    pub(crate) directory: Option<PathBuf>,
    /// How many nodes are started, where the command line says.
    pub(crate) nodes: Option<usize>,
    /// Entries of others on the host; one product each.
    pub(crate) entries: Vec<usize>,
    /// Callers at a time.
    pub(crate) callers: usize,
    /// Idle streams.
    pub(crate) streams: usize,
    /// Which part of the full numbers, for the scenarios that have such.
    pub(crate) scale: f64,
}

impl Options {
    /// How many nodes a scenario about the cluster has when nobody says.
    pub(crate) const CLUSTER: usize = 3;

    /// One product for each number of other entries, filled.
    pub(crate) async fn products(&self) -> Result<Vec<(usize, Product)>, Trouble> {
        self.products_of(1).await
    }

    async fn products_of(&self, nodes: usize) -> Result<Vec<(usize, Product)>, Trouble> {
        if self.directory.is_some() && self.entries.len() > 1 {
            return Err(Trouble::Unexpected("one running node cannot hold several numbers of entries".to_owned()));
        }
        let mut products = Vec::new();
        for entries in &self.entries {
            let product = Product::find_or_start(self.directory.as_deref(), self.nodes.unwrap_or(nodes)).await?;
            product.clients().admin().create(entries_of_others(*entries)).await?;
            products.push((*entries, product));
        }
        Ok(products)
    }

    /// The first of the products.
    pub(crate) async fn product(&self) -> Result<Product, Trouble> {
        self.product_of(1).await
    }

    /// A cluster.
    pub(crate) async fn cluster(&self) -> Result<Product, Trouble> {
        self.product_of(Self::CLUSTER).await
    }

    /// A cluster of this process's own, whose nodes it can kill and start.
    pub(crate) async fn own_nodes(&self) -> Result<OwnNodes, Trouble> {
        if self.directory.is_some() {
            return Err(Trouble::Unexpected("the nodes are killed here, so they are not those of --dir".to_owned()));
        }
        OwnNodes::found(self.nodes.unwrap_or(Self::CLUSTER)).await
    }

    async fn product_of(&self, nodes: usize) -> Result<Product, Trouble> {
        let products = self.products_of(nodes).await?;
        let first = products.into_iter().next().map(|(_, product)| product);
        first.ok_or_else(|| Trouble::Unexpected("no number of entries was given".to_owned()))
    }
}
