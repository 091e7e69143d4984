//! An address that stays while servers behind it come and go, as the one of a
//! proxy does. Who connects while there is none waits.

use tokio::{
    io::copy_bidirectional,
    net::{TcpListener, TcpStream},
    sync::watch,
    task::JoinHandle,
};

/// Where connections are led, and how often all of them were cut.
type Lead = (Option<String>, u64);

pub struct Relay {
    address: String,
    lead: watch::Sender<Lead>,
    accepting: JoinHandle<()>,
}

impl Relay {
    /// One that leads nowhere yet.
    pub async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = listener.local_addr().expect("bound").to_string();
        let (lead, leads) = watch::channel((None, 0));
        let accepting = tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                tokio::spawn(carry(client, leads.clone()));
            }
        });
        Self {
            address,
            lead,
            accepting,
        }
    }

    pub fn address(&self) -> &str {
        &self.address
    }

    /// New connections go there, those that wait too; old ones are cut.
    pub fn lead_to(&self, server: &str) {
        self.lead
            .send_modify(|lead| *lead = (Some(server.to_owned()), lead.1 + 1));
    }

    /// Cuts all connections; new ones wait.
    pub fn lead_nowhere(&self) {
        self.lead.send_modify(|lead| *lead = (None, lead.1 + 1));
    }

    /// Cuts all connections; new ones go where they went.
    pub fn cut(&self) {
        self.lead.send_modify(|lead| lead.1 += 1);
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

async fn carry(mut client: TcpStream, mut leads: watch::Receiver<Lead>) {
    let lead = leads.wait_for(|lead| lead.0.is_some()).await;
    // The relay, and with it the test, may be over.
    let Ok((address, cuts)) = lead.map(|lead| lead.clone()) else {
        return;
    };
    let Ok(mut server) = TcpStream::connect(address.expect("waited for")).await else {
        return;
    };
    tokio::select! {
        _ = copy_bidirectional(&mut client, &mut server) => {}
        _ = leads.wait_for(|lead| lead.1 != cuts) => {}
    }
}
