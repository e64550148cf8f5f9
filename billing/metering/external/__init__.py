"""Usage that did not pass the gateway: events of training, batch jobs and other gateways, each recorded once."""
