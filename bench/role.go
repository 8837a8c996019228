package main

import (
	"errors"
	"flag"
)

// A role is what this program is when the bench starts it once more.
type role struct {
	node, simnode        *bool
	listen               *string
	crowd                *string
	connections, streams *int
	nonce                *uint64
	routing              *string
	nth                  *int
	sharing              *string
}

func roleFlags(flags *flag.FlagSet) role {
	return role{
		node:        flags.Bool("node", false, "be a node (the bench starts itself so)"),
		simnode:     flags.Bool("simnode", false, "be a node that can be broken (likewise)"),
		listen:      flags.String("listen", anyPort, "`address` of the node"),
		crowd:       flags.String("crowd", "", "be idle connections and streams before an `address` (likewise)"),
		connections: flags.Int("connections", 0, "of the crowd"),
		streams:     flags.Int("streams", 0, "of the crowd"),
		nonce:       flags.Uint64("nonce", 0, "first number of the crowd's prompts"),
		routing:     flags.String("routing", "", "be a node of the routing of that `name` (likewise)"),
		nth:         flags.Int("nth", 0, "which of its nodes"),
		sharing:     flags.String("sharing", "", "be a node of that `kind`, for requests that are answered together (likewise)"),
	}
}

// errNoRole says that this program is the bench itself.
var errNoRole = errors.New("no role")

// play returns when the role has ended.
func (r role) play() error {
	switch {
	case *r.node:
		return runNode(*r.listen)
	case *r.simnode:
		return runSimnode(*r.listen)
	case *r.routing != "":
		return runRoutingNode(*r.routing, *r.nth, *r.listen)
	case *r.sharing != "":
		return runSharingNode(*r.sharing, *r.listen)
	case *r.crowd != "":
		return runCrowd(*r.crowd, *r.connections, *r.streams, *r.nonce)
	}
	return errNoRole
}
