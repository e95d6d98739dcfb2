"""What a climb maximises: from rewards to the loss of every sampled token."""
