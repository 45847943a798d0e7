"""Operations that need torch only, each with a short definition that its fast paths are compared with."""
