"""What another way of choosing would have scored and cost, on outcomes that are known or decisions that were logged."""
